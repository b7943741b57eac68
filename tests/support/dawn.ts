/**
 * Dawn, the WebGPU of Chrome, as the npm package `webgpu` brings it to Node, and an adapter for it: the software
 * one of Debian's Chromium if there is no other. Tests with it are ignored if either is missing.
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tmpdir } from "node:os";
import process from "node:process";

/** The version that is tested with. */
const PACKAGE = "webgpu@0.6.2";

/** The driver that Debian's `chromium` brings. */
const SOFTWARE = "/usr/lib/chromium/vk_swiftshader_icd.json";

/** A folder with the package in its `node_modules`, and the environment that finds an adapter. */
export interface Dawn {
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
}

/**
 * Returns Dawn with an adapter; a text: why there is none.
 *
 * @param installs whether the package may be downloaded if it is not there: 130 MB unpacked.
 */
export function findDawn({ installs }: { readonly installs: boolean }): Dawn | string {
  const folder = join(tmpdir(), "quantsmith-dawn");
  const script = join(folder, "adapter.mjs");
  if (!existsSync(join(folder, "node_modules/webgpu/index.js"))) {
    if (!installs) return "Dawn is not there; `deno task test:dawn` downloads it";
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "package.json"), "{}");
    const { status } = spawnSync("npm", ["install", "--no-audit", "--silent", PACKAGE], {
      cwd: folder,
      shell: process.platform === "win32",
    });
    if (status !== 0) return `the npm package ${PACKAGE} cannot be had`;
  }
  writeFileSync(
    script,
    `import { create, globals } from "webgpu";
Object.assign(globalThis, globals);
const gpu = create([]);
process.exit(await gpu.requestAdapter() === null ? 1 : 0);
`,
  );
  const runtime = { XDG_RUNTIME_DIR: process.env["XDG_RUNTIME_DIR"] ?? tmpdir() };
  for (const env of [runtime, { ...runtime, VK_DRIVER_FILES: SOFTWARE }]) {
    const { status, error } = spawnSync("node", [script], { env: { ...process.env, ...env } });
    if (error !== undefined) return "there is no Node";
    if (status === 0) return { folder, env };
  }
  return "Dawn finds no adapter; Debian's chromium brings a software one";
}
