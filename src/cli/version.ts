/** The output of `--version`. */

import { VERSION } from "../core/version.ts";
import { BUILD, type BuildStamp } from "./build_stamp.ts";

export { VERSION };

/** Returns what `--version` prints: a binary also says what it was built from. */
export function versionLine(build: BuildStamp | null = BUILD): string {
  const stamp = build === null ? "" : ` (commit ${build.commit}, kernels ${build.kernels})`;
  return `quantsmith ${VERSION}${stamp}`;
}
