/**
 * Runs the tests of kernels, and the self-test, on implementations of WebGPU and drivers other than the
 * default one:
 *
 *     deno task test:dawn [arguments of deno test]    Dawn, the WebGPU of Chrome (npm package `webgpu`)
 *     deno task test:gl [arguments of deno test]      the OpenGL adapter of wgpu, Deno's own WebGPU
 *
 * Both take a software adapter if there is no GPU: Debian's `chromium` brings one for Dawn, its
 * `libgl1-mesa-dri` and `libegl1` one for OpenGL. If there is none, all is ignored, and said so.
 * Software adapters take minutes, most of it to compile.
 */

import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { findDawn } from "../tests/support/dawn.ts";

const [which, ...args] = process.argv.slice(2);
const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** Kernels one by one; what is made of them takes software adapters too long. */
const PATHS = [
  "tests/kernels",
  ...["self_test", "storage", "record_int8_linear", "record_products", "batch"].map((name) =>
    `tests/backend/webgpu/${name}_test.ts`
  ),
];

const setting = which === "dawn" ? dawnSetting() : which === "gl" ? glSetting() : null;
if (setting === null) throw new Error("Name an implementation: dawn or gl");
if (typeof setting === "string") console.log(`ignored: ${setting}`);
else {
  const paths = args.some((arg) => arg.startsWith("tests/")) ? [] : PATHS;
  const { status } = spawnSync(process.execPath, [
    ...["test", "-A", "--config=deno.dev.json", "--preload=tests/support/fixed_seed.ts"],
    ...setting.options,
    ...args,
    ...paths,
  ], { cwd: ROOT, stdio: "inherit", env: { ...process.env, ...setting.env } });
  process.exitCode = status ?? 1;
}

interface Setting {
  readonly options: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

function dawnSetting(): Setting | string {
  const dawn = findDawn({ installs: true });
  if (typeof dawn === "string") return dawn;
  const { folder, env } = dawn;
  const options = ["--preload=tests/support/use_dawn.ts"];
  return { options, env: { ...env, QUANTSMITH_DAWN: folder } };
}

function glSetting(): Setting | string {
  // Without any Vulkan driver wgpu takes OpenGL.
  const env = { VK_DRIVER_FILES: "/nonexistent" };
  const code = "if (await navigator.gpu.requestAdapter() === null) Deno.exit(1)";
  const { status } = spawnSync(process.execPath, ["eval", code], {
    env: { XDG_RUNTIME_DIR: "/tmp", ...process.env, ...env },
  });
  return status === 0 ? { options: [], env } : "there is no OpenGL that wgpu can use";
}
