/** The common parts of both ways of building binaries: targets, permissions, checksums. */

import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

/** Folder of binaries without `--out`. */
export const DIST = fileURLToPath(new URL("../../dist", import.meta.url));

/** The targets by Deno's names, with Bun's. */
export const TARGETS: Readonly<Record<string, string>> = Object.freeze({
  "x86_64-unknown-linux-gnu": "bun-linux-x64",
  "aarch64-unknown-linux-gnu": "bun-linux-arm64",
  "x86_64-apple-darwin": "bun-darwin-x64",
  "aarch64-apple-darwin": "bun-darwin-arm64",
  "x86_64-pc-windows-msvc": "bun-windows-x64",
});

/** The permissions that suffice: docs/usage.md states them, and the tests run with no others. */
export const LEAST_PERMISSIONS: readonly string[] = Object.freeze([
  "--allow-read",
  "--allow-write",
  "--allow-env",
  // The number of workers; may the folder of the output be written to; has its disk the room; memory.
  "--allow-sys=cpus,uid,statfs,systemMemoryInfo",
  // Models on servers: any host may be named, and hosts redirect to others.
  "--allow-net",
]);

/** Returns the permissions of a binary for a target. */
export function permissionsFor(target: string): readonly string[] {
  // A binary that was started from the desktop keeps its window open: it asks which program started it.
  return target.includes("windows")
    ? [...LEAST_PERMISSIONS, "--allow-run=tasklist"]
    : LEAST_PERMISSIONS;
}

/** A build, from the command line: `[--target TARGET|all]... [--out DIR]`. */
export interface BuildRequest {
  readonly targets: readonly string[];
  readonly out: string;
  /** Path of the list of what is inside; Bun only. */
  readonly metafile: string | null;
}

/** Returns the request. Exits with a message if a target is unknown. */
export function buildRequest(): BuildRequest {
  const { values } = parseArgs({
    options: {
      target: { type: "string", multiple: true, default: [hostTarget()] },
      out: { type: "string", default: DIST },
      metafile: { type: "string" },
    },
  });
  const targets = values.target.includes("all") ? Object.keys(TARGETS) : values.target;
  const unknown = targets.find((target) => !Object.hasOwn(TARGETS, target));
  if (unknown !== undefined) {
    console.error(`Unknown target "${unknown}": there are all, ${Object.keys(TARGETS).join(", ")}`);
    process.exit(2);
  }
  fs.mkdirSync(values.out, { recursive: true });
  return { targets, out: path.resolve(values.out), metafile: values.metafile ?? null };
}

/** Returns the target of this machine. */
export function hostTarget(): string {
  const cpu = process.arch === "arm64" ? "aarch64" : "x86_64";
  const system = process.platform === "win32"
    ? "pc-windows-msvc"
    : process.platform === "darwin"
    ? "apple-darwin"
    : "unknown-linux-gnu";
  return `${cpu}-${system}`;
}

/** Returns the path of a binary. */
export function binaryPath(out: string, prefix: string, target: string): string {
  return path.join(out, `${prefix}-${target}${target.includes("windows") ? ".exe" : ""}`);
}

/** Writes `SHA256SUMS` over all binaries in `out`, in the form that `sha256sum --check` reads. */
export function writeChecksums(out: string): void {
  const lines = fs.readdirSync(out)
    .filter((name) => name.startsWith("quantsmith-"))
    .sort()
    .map((name) => {
      const hash = createHash("sha256").update(fs.readFileSync(path.join(out, name)));
      return `${hash.digest("hex")}  ${name}\n`;
    });
  fs.writeFileSync(path.join(out, "SHA256SUMS"), lines.join(""));
}

/** Prints what was built. */
export function tellBuilt(file: string): void {
  console.log(`${file}: ${(fs.statSync(file).size / 1e6).toFixed(1)} MB`);
}
