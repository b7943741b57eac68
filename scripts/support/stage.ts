/**
 * A copy of what is shipped, in a folder of its own, to build binaries from: tests, scripts and
 * development packages cannot get in, and the stamp can be written without touching the checkout.
 */

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import manifest from "../../deno.json" with { type: "json" };
import type { BuildStamp } from "../../src/cli/build_stamp.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Files that are copied. */
const SHIPPED = [
  ...["main.ts", "mod.ts", "src", "wgsl", "LICENSE"],
  // The lock file names the packages of both manifests.
  ...["deno.json", "deno.lock", "package.json"],
];

/** The entry points, as workers are not found by themselves. Paths from the root. */
export const ENTRY = "main.ts";
export const WORKER = "src/run/workers/worker.ts";

/** A folder with the sources; removed when disposed. */
export class Stage implements Disposable {
  readonly path: string;
  readonly stamp: BuildStamp;

  constructor() {
    this.path = fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-build-"));
    this.stamp = { commit: commitOf(ROOT), kernels: kernelHash(ROOT) };
    for (const name of SHIPPED) {
      fs.cpSync(path.join(ROOT, name), path.join(this.path, name), { recursive: true });
    }
    nameAllImports(path.join(this.path, "src"));
    const stampFile = path.join(this.path, "src/cli/build_stamp.ts");
    const source = fs.readFileSync(stampFile, "utf8");
    const stamped = source.replace(
      "BuildStamp | null = null",
      `BuildStamp | null = ${JSON.stringify(this.stamp)}`,
    );
    if (stamped === source) throw new Error(`Cannot stamp "${stampFile}": no null stands there`);
    fs.writeFileSync(stampFile, stamped);
  }

  /**
   * Lays out the npm packages as bundlers other than Deno look for them, from Deno's cache.
   *
   * @param more specifiers of packages that the build needs besides those of the program.
   */
  installPackages(more: readonly string[] = []): void {
    const versions = [...Object.values(manifest.imports), ...more].map((specifier) => {
      const [, name, version] = /^npm:\/?((?:@[^/]+\/)?[^@/]+)@([^/]+)/.exec(specifier)!;
      return [name!, version!];
    });
    const manifestOfNode = {
      type: "module",
      private: true,
      dependencies: Object.fromEntries(versions),
    };
    // The import map of Deno would name packages that are not shipped.
    fs.rmSync(path.join(this.path, "deno.json"));
    fs.rmSync(path.join(this.path, "deno.lock"));
    fs.writeFileSync(path.join(this.path, "package.json"), JSON.stringify(manifestOfNode));
    execFileSync(process.execPath, ["install", "-q", "--node-modules-dir=auto", "--no-lock"], {
      cwd: this.path,
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  [Symbol.dispose](): void {
    fs.rmSync(this.path, { recursive: true, force: true });
  }
}

/** Puts literals into imports that wait, of all files below `folder`: `src/core/later.ts` says why they have none. */
function nameAllImports(folder: string): void {
  for (const name of fs.readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".ts")) continue;
    const file = path.join(folder, name), source = fs.readFileSync(file, "utf8");
    const named = source.replace(
      /\bimport\(\s*later\(\s*("[^"]+")\s*,?\s*\),?\s*\)/g,
      "import($1)",
    );
    if (named !== source) fs.writeFileSync(file, named);
  }
}

function commitOf(folder: string): string {
  const git = (...args: string[]) =>
    execFileSync("git", args, {
      cwd: folder,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    })
      .trim();
  try {
    const changes = git("status", "--porcelain", "--untracked-files=no");
    return `${git("rev-parse", "--short=12", "HEAD")}${changes === "" ? "" : "+"}`;
  } catch {
    // No git, or an unpacked archive: the stamp says so.
    return "unknown";
  }
}

/** Returns the first 12 digits of the SHA-256 of all kernels below `folder`, in the order of their paths. */
export function kernelHash(folder: string): string {
  const hash = createHash("sha256");
  const files = ["src/backend", "wgsl"].flatMap((sub) =>
    fs.readdirSync(path.join(folder, sub), { recursive: true, encoding: "utf8" })
      .filter((name) => /\.(wasm\.b64|wgsl)$/.test(name))
      .map((name) => path.join(sub, name))
  );
  for (const file of files.sort()) hash.update(fs.readFileSync(path.join(folder, file)));
  return hash.digest("hex").slice(0, 12);
}
