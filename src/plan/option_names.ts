/** How an option is written by whoever asked for it, for messages. */

/** Returns an option with its value as one door writes it: `--scaling_mode row`, `scaling "row"`. */
export type OptionNames = (path: string, value?: unknown) => string;

/** The library's: names as they are. */
export const LIBRARY_NAMES: OptionNames = (path, value) =>
  value === undefined ? path : `${path} ${shownValue(value)}`;

/** A layer config's: its fields. */
export const LAYER_CONFIG_NAMES: OptionNames = (path, value) => {
  if (path === "comfyQuant") return "--no-comfy-quant";
  const field = path === "scaling" ? "scaling_mode" : path === "blockSize" ? "block_size" : path;
  return LIBRARY_NAMES(field, value);
};

/** Returns a value as it is shown in a message, cut if it is long. */
export function shownValue(value: unknown): string {
  if (typeof value === "bigint" || typeof value === "symbol" || typeof value === "function") {
    return String(value).slice(0, SHOWN);
  }
  const text = typeof value === "number" ? String(value) : JSON.stringify(value) ?? String(value);
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}...`;
}

const SHOWN = 60;
