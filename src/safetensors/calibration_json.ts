/** Reads calibration statistics from a JSON file. */

import * as v from "valibot";
import { FormatError } from "../core/errors.ts";
import { parseJsonStrict } from "../core/json.ts";
import { explained } from "./io_error.ts";
import { readSmallFile } from "./small_file.ts";

const NUMBERS = v.array(v.number());

const ENTRY = v.strictObject({
  activations: v.optional(v.array(NUMBERS)),
  hessian: v.optional(v.array(NUMBERS)),
  channel_max: v.optional(NUMBERS),
  channel_mean: v.optional(NUMBERS),
  input_scale: v.optional(v.number()),
});

/** Besides layers, what safetensors has under the same name. */
const METADATA = "__metadata__";

const FILE = v.objectWithRest({
  [METADATA]: v.optional(v.record(v.string(), v.string())),
}, ENTRY);

/** The statistics of one layer, as written. */
export type CalibrationEntry = v.InferOutput<typeof ENTRY>;

/** Content of a file. */
export interface CalibrationJson {
  readonly metadata: Readonly<Record<string, string>>;
  /** By layer name. */
  readonly layers: readonly [string, CalibrationEntry][];
}

/**
 * Returns what a calibration file says.
 *
 * @throws FormatError naming the place if it is not of the documented form; Error if it cannot be
 * read.
 */
export function readCalibrationJson(path: string): CalibrationJson {
  const text = explained(
    `Cannot read ${JSON.stringify(path)}`,
    () => new TextDecoder().decode(readSmallFile(path)),
  );
  let json: unknown;
  try {
    json = parseJsonStrict(text);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new FormatError(`it is no valid JSON (${cause.message})`, { path, cause });
  }
  const result = v.safeParse(FILE, json);
  if (!result.success) {
    const [issue] = result.issues;
    const place = v.getDotPath(issue) ?? "the file";
    throw new FormatError(`${place}: ${issue.message}`, { path });
  }
  const { [METADATA]: metadata = {}, ...layers } = result.output;
  return { metadata, layers: Object.entries(layers) };
}
