/** The version, the same as in deno.json: a program in one file has no deno.json to read. */

import { BUILD, type BuildStamp } from "./build_stamp.ts";

export const VERSION = "0.1.0";

/** Returns what `--version` prints: a binary also says what it was built from. */
export function versionLine(build: BuildStamp | null = BUILD): string {
  const stamp = build === null ? "" : ` (commit ${build.commit}, kernels ${build.kernels})`;
  return `quantsmith ${VERSION}${stamp}`;
}
