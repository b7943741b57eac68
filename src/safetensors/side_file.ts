/**
 * Small files that a command writes beside its output: reports, templates. They go the way of outputs: checked
 * before the work, written beside their place, synced, renamed.
 */

import { resolve } from "node:path";
import { UnsupportedError } from "../core/errors.ts";
import type { InputPath } from "../remote/input_path.ts";
import { recoverNames } from "./leftovers.ts";
import { LockedOutput } from "./locked_output.ts";
import { checkOutputPath, refuseSameFile } from "./output_file.ts";

/** Files that a side file must not replace. */
export interface SideFileRules {
  /** Replace an existing file. */
  readonly force: boolean;
  /** Everything that the command reads. */
  readonly inputs: readonly InputPath[];
  /** Everything else that it writes. */
  readonly outputs: readonly string[];
}

/**
 * Refuses a side file that cannot be written, or would replace an input or another output. Touches nothing:
 * call it before the work.
 *
 * @throws UnsupportedError if it exists without `force`, or is an input or an output; Error if its folder is
 *   missing or cannot be written.
 */
export function checkSideFile(path: string, { force, inputs, outputs }: SideFileRules): void {
  refuseSameFile(path, inputs);
  const same = outputs.find((output) => resolve(output) === resolve(path));
  if (same !== undefined) {
    throw new UnsupportedError(
      `Cannot write ${JSON.stringify(path)}: the model is written to this name; name another file`,
    );
  }
  checkOutputPath(path, { force });
}

/**
 * Writes `text` to `path`: the file appears when it is complete.
 *
 * @throws as {@link checkSideFile}; Error if writing fails. The old file, if any, is untouched then.
 */
export async function writeSideFile(
  path: string,
  text: string,
  rules: SideFileRules,
): Promise<void> {
  await recoverNames(path);
  checkSideFile(path, rules);
  const bytes = new TextEncoder().encode(text);
  const whole = { header: bytes, totalBytes: bytes.length };
  using file = await LockedOutput.create(path, whole, { force: rules.force });
  await file.commit();
}
