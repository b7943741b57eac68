/** The licenses of the packages that a bundle holds: they ask to be passed on with it. */

import fs from "node:fs";
import path from "node:path";
import type { Metafile } from "esbuild";

/**
 * Returns one text with the license of every package in the bundle.
 *
 * @param root the folder that the paths of `metafile` start from.
 * @throws Error if a package has no license file.
 */
export function licensesOf(metafile: Metafile, root: string): string {
  const folders = Object.keys(metafile.inputs).flatMap((file) =>
    /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(file)?.[0] ?? []
  );
  const parts = [...new Set(folders)].map((folder) => {
    const place = path.resolve(root, folder);
    const { name, version, license } = JSON.parse(
      fs.readFileSync(path.join(place, "package.json"), "utf8"),
    );
    const file = fs.readdirSync(place).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file === undefined ? null : fs.readFileSync(path.join(place, file), "utf8").trim();
    if (text === null && license === undefined) {
      throw new Error(`Cannot pass on the license of "${name}": the package names none`);
    }
    return `${name} ${version} (${license})\n\n${text ?? "The package has no license file."}\n`;
  });
  return parts.sort().join(`\n${"-".repeat(80)}\n\n`);
}
