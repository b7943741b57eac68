/** Reads a layer config from disk. */

import { readFileSync, statSync } from "node:fs";
import { UsageError } from "../core/errors.ts";
import { type LayerConfig, parseLayerConfig } from "./layer_config.ts";

/**
 * Returns the layer config of a file.
 *
 * @param path a JSON file, UTF-8.
 * @throws UsageError if it cannot be read, or breaks a rule; it names file, entry and field.
 */
export function loadLayerConfig(path: string): LayerConfig {
  const place = `layer config ${JSON.stringify(path)}`;
  let bytes: Uint8Array;
  try {
    // Opening a pipe waits for its writer, and a device may never end.
    if (!statSync(path).isFile()) throw new Error("it is not a regular file");
    bytes = readFileSync(path);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const why = code === "ENOENT" ? "there is no such file" : String((cause as Error).message);
    throw new UsageError(`Cannot read ${place}: ${why}`, { cause });
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new UsageError(`Cannot read ${place}: it is not UTF-8`, { cause });
  }
  return parseLayerConfig(text, path);
}
