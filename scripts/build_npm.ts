/**
 * Builds what people get without a checkout, into `dist/`:
 *
 *     deno task build:npm [--out DIR]
 *
 * - `npm/`: the package for npm, for Node, Bun and browsers (`npm pack` and `npm publish` take that folder);
 * - `quantsmith.js`: the program as one file, for Deno (from a URL, too), Node and Bun.
 */

import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import development from "../deno.dev.json" with { type: "json" };
import { DIST } from "./support/binaries.ts";
import { bundleOneFile, bundlePackage } from "./support/bundle.ts";
import { writeDeclarations } from "./support/declarations.ts";
import { npmManifest } from "./support/npm_manifest.ts";
import { buildSite } from "./support/site.ts";
import { Stage } from "./support/stage.ts";
import { licensesOf } from "./support/third_party.ts";

const { values } = parseArgs({ options: { out: { type: "string", default: DIST } } });
const out = path.resolve(values.out);
const folder = path.join(out, "npm");
const root = new URL("..", import.meta.url);

using stage = new Stage();
stage.installPackages([development.imports["@types/node"]]);
fs.cpSync(new URL("scripts/npm", root), path.join(stage.path, "scripts/npm"), { recursive: true });
fs.rmSync(folder, { recursive: true, force: true });
const inside = await bundlePackage(stage, path.join(folder, "lib"));
fs.mkdirSync(path.join(folder, "bin"));
for (const name of ["quantsmith.js", "check_node.js"]) {
  fs.copyFileSync(new URL(`scripts/npm/${name}`, root), path.join(folder, "bin", name));
}
fs.chmodSync(path.join(folder, "bin/quantsmith.js"), 0o755);
fs.cpSync(new URL("web", root), path.join(stage.path, "web"), { recursive: true });
writeDeclarations(stage, path.join(folder, "types"));
using siteStage = new Stage();
await buildSite(siteStage, path.join(folder, "web"));
for (const name of ["README.md", "LICENSE", "CHANGELOG.md"]) {
  fs.copyFileSync(new URL(name, root), path.join(folder, name));
}
fs.mkdirSync(path.join(folder, "man"));
fs.copyFileSync(new URL("docs/quantsmith.1", root), path.join(folder, "man/quantsmith.1"));
const licenses = licensesOf(inside, stage.path);
fs.writeFileSync(path.join(folder, "THIRD_PARTY_LICENSES"), licenses);
fs.writeFileSync(path.join(folder, "package.json"), JSON.stringify(npmManifest(), null, 2) + "\n");
const oneFile = path.join(out, "quantsmith.js");
await bundleOneFile(stage, oneFile, licenses);
console.log(`${folder}: ${megabytes(folder)}\n${oneFile}: ${megabytes(oneFile)}`);

function megabytes(place: string): string {
  const files = fs.statSync(place).isDirectory()
    ? fs.readdirSync(place, { recursive: true, encoding: "utf8" }).map((n) => path.join(place, n))
    : [place];
  const bytes = files.map((file) => fs.statSync(file)).filter((stat) => stat.isFile())
    .reduce((sum, { size }) => sum + size, 0);
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
