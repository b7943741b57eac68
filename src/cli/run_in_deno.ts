/**
 * A run that needs a GPU, in a runtime without WebGPU: Deno has it, so the same program runs there. Node has it
 * if the package `webgpu` is installed.
 */

import { spawn, spawnSync } from "node:child_process";
import { constants } from "node:os";
import process from "node:process";
import { DeviceError } from "../core/errors.ts";
import { hasWebGpu } from "../backend/select/devices.ts";
import type { Parsed } from "./parse.ts";

/** Parameters of a run in Deno. */
export interface DenoRun {
  /** The arguments of the program. */
  readonly args: readonly string[];
  /** URL of the script. */
  readonly program: string;
  /** Writes a line for people. */
  readonly stderr: (line: string) => void;
}

/** Whether `parsed` asks for a GPU, and this runtime has no way to one. */
export async function needsDeno(parsed: Parsed): Promise<boolean> {
  return parsed.string("device") === "gpu" && !parsed.bool("low-memory") && !await hasWebGpu();
}

/**
 * Runs the program in Deno, on the same terminal, and returns its exit code.
 *
 * @throws DeviceError if there is no Deno, or the program is a binary that Deno cannot run.
 */
export async function runInDeno({ args, program, stderr }: DenoRun): Promise<number> {
  const runtime = process.versions["bun"] === undefined ? "Node" : "Bun";
  if (/\$bunfs|~BUN/.test(program)) {
    throw new DeviceError(
      "Cannot use a GPU: this binary was built with Bun, which has no WebGPU: " +
        'take the binary without "bun" in its name, or --device cpu',
    );
  }
  const version = denoVersion();
  if (version === null) {
    throw new DeviceError(
      `Cannot use a GPU: ${runtime} has no WebGPU, Deno has: install it ` +
        "(`npm install -g deno`, or https://deno.com), then run the same command again; " +
        (runtime === "Node" ? "or install the package `webgpu` beside this program; " : "") +
        "or take --device cpu",
    );
  }
  stderr(`${runtime} has no WebGPU: running in Deno ${version}`);
  // A bundle needs no settings, and must not take those of a folder around it.
  const settings = program.endsWith(".js") ? ["--no-config", "--no-lock"] : [];
  const child = spawn("deno", ["run", "-A", "--quiet", ...settings, program, ...args], {
    stdio: "inherit",
  });
  // Ctrl-C reaches both processes, other signals only one.
  const pass = () => child.kill("SIGTERM");
  process.on("SIGTERM", pass);
  try {
    return await new Promise((resolve, reject) => {
      child.once(
        "error",
        (cause) => reject(new DeviceError(`Cannot start Deno: ${cause.message}`, { cause })),
      );
      child.once(
        "close",
        (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
      );
    });
  } finally {
    process.off("SIGTERM", pass);
  }
}

/** The version of the Deno on the PATH; null if there is none. */
function denoVersion(): string | null {
  const { status, stdout } = spawnSync("deno", ["--version"], { encoding: "utf8" });
  return status === 0 ? /^deno (\S+)/.exec(stdout)?.[1] ?? "unknown" : null;
}
