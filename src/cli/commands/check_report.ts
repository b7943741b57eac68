/** Whether the report of a conversion can be written: asked before the work. */

import { checkSideFile, type SideFileRules } from "../../safetensors/side_file.ts";
import type { ConvertIo } from "../options.ts";

/** Refuses a report that cannot be written, or would replace a file of this run. */
export function checkReport(
  io: ConvertIo,
  { inputs, outputs }: Pick<SideFileRules, "inputs" | "outputs">,
): void {
  if (io.reportPath !== null) {
    checkSideFile(io.reportPath, reportRules(io, { inputs, outputs }));
  }
}

/** Files that a report must not replace. */
export function reportRules(
  { input, readPaths, force }: ConvertIo,
  { inputs, outputs }: Pick<SideFileRules, "inputs" | "outputs">,
): SideFileRules {
  return { force, inputs: [input, ...readPaths, ...inputs], outputs };
}
