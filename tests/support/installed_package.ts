/** The npm package as a user gets it: built, packed, and installed without a network in an empty folder. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { VERSION } from "../../src/core/version.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SHELL = process.platform === "win32";

/** The result of a command. */
export interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** An installed package. */
export class InstalledPackage {
  /** An empty home folder. */
  readonly home: string;
  /** The folder of the installation. */
  readonly place: string;
  /** The packed package. */
  readonly tarball: string;
  /** Its command, a script. */
  readonly bin: string;
  /** The program as one file. */
  readonly oneFile: string;

  /** Builds, packs and installs into `folder`, which is there and empty. */
  constructor(folder: string) {
    this.home = join(folder, "home");
    this.place = join(folder, "place");
    this.tarball = join(folder, `quantsmith-${VERSION}.tgz`);
    this.bin = join(this.place, "node_modules/quantsmith/bin/quantsmith.js");
    this.oneFile = join(folder, "quantsmith.js");
    mkdirSync(this.home);
    mkdirSync(this.place);
    this.mustRun(process.execPath, [
      ...["run", "-A", "--config", join(ROOT, "deno.dev.json")],
      ...[join(ROOT, "scripts/build_npm.ts"), "--out", folder],
    ]);
    this.mustRun("npm", ["pack", join(folder, "npm"), "--silent", "--pack-destination", folder]);
    this.mustRun("npm", ["install", "--offline", "--no-audit", "--silent", this.tarball]);
  }

  /** Runs a program in the folder of the installation. */
  run(command: string, args: readonly string[], env: Record<string, string> = {}): Run {
    const { status, stdout, stderr, error } = spawnSync(command, args, {
      cwd: this.place,
      encoding: "utf8",
      shell: SHELL,
      env: {
        ...process.env,
        HOME: this.home,
        USERPROFILE: this.home,
        NO_COLOR: "1",
        ...env,
      },
    });
    if (error !== undefined) throw error;
    return { code: status, stdout, stderr };
  }

  /** Runs a program that has to succeed, and returns what it printed. */
  mustRun(command: string, args: readonly string[]): string {
    const { code, stdout, stderr } = this.run(command, args);
    assert.equal(code, 0, `${command} ${args.join(" ")}: ${stderr}`);
    return stdout;
  }
}
