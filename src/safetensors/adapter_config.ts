/** The `adapter_config.json` that PEFT writes beside an adapter: it alone may hold alpha. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { FormatError } from "../core/errors.ts";
import type { InputPath } from "../remote/input_path.ts";
import { codeOf, explained } from "./io_error.ts";

const CONFIG_NAME = "adapter_config.json";

/** A configuration has a few kilobytes. */
const MOST_BYTES = 1 << 20;

/**
 * Returns the metadata of an adapter file with the text of the `adapter_config.json` beside it, under
 * that key. It counts for `adapter_model*.safetensors`, and for the only safetensors file of its folder;
 * configurations in the header itself come first.
 *
 * @param path the adapter's file.
 * @throws FormatError if the configuration is too large to be one; Error if it cannot be read.
 */
export function withAdapterConfig(
  path: InputPath,
  metadata: Readonly<Record<string, string>> | null,
): Readonly<Record<string, string>> | null {
  if (typeof path !== "string") return metadata;
  const folder = dirname(path);
  const config = join(folder, CONFIG_NAME);
  const size = sizeOf(config);
  if (size === null || !isItsAdapter(basename(path), folder)) return metadata;
  if (size > MOST_BYTES) {
    throw new FormatError(`it has ${size} bytes, more than a configuration of an adapter`, {
      path: config,
      hint: "move it away if it is another program's",
    });
  }
  const text = explained(
    `Cannot read ${JSON.stringify(config)}`,
    () => readFileSync(config, "utf8"),
  );
  return { [CONFIG_NAME]: text, ...metadata };
}

function isItsAdapter(name: string, folder: string): boolean {
  if (/^adapter_model.*\.safetensors$/.test(name)) return true;
  const models = readdirSync(folder).filter((other) =>
    other.endsWith(".safetensors") && !other.startsWith(".")
  );
  return models.length === 1;
}

function sizeOf(path: string): number | null {
  try {
    const stats = statSync(path);
    return stats.isFile() ? stats.size : null;
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw new Error(`Cannot read ${JSON.stringify(path)}`, { cause: error });
  }
}
