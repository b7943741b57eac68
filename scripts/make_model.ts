/**
 * Writes a checkpoint of synthetic weights (see `tests/support/synthetic_model.ts`).
 *
 *     deno run -A scripts/make_model.ts OUT [--size tiny|demo|bench] [--gb N] [--layers N] [--seed N]
 *
 * `--gb`: at least so many gigabytes (10^9 bytes), by more blocks. `--layers`: that many small layers
 * instead of a model.
 */

import process from "node:process";
import { parseArgs } from "node:util";
import { writeSyntheticModel } from "../tests/support/synthetic_model.ts";
import {
  fluxLikeOfBytes,
  manyLayers,
  MODEL_SIZES,
  type ModelSize,
} from "../tests/support/synthetic_shapes.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    size: { type: "string", default: "demo" },
    gb: { type: "string", default: "0" },
    layers: { type: "string" },
    seed: { type: "string", default: "0" },
  },
});
const [out] = positionals;
const size = (MODEL_SIZES as Readonly<Record<string, ModelSize>>)[values.size];
if (out === undefined || positionals.length > 1 || size === undefined) {
  console.error(
    "Usage: make_model.ts OUT [--size tiny|demo|bench] [--gb N] [--layers N] [--seed N]",
  );
  process.exit(2);
}

/** Returns the number that a flag holds. */
function numberOf(flag: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0) {
    console.error(`Cannot read --${flag}: "${text}" is not a number of 0 or more`);
    process.exit(2);
  }
  return value;
}

const tensors = values.layers === undefined
  ? fluxLikeOfBytes(size, numberOf("gb", values.gb) * 1e9)
  : manyLayers(numberOf("layers", values.layers));
const start = performance.now();
const bytes = writeSyntheticModel(out, tensors, { seed: numberOf("seed", values.seed) });
const seconds = (performance.now() - start) / 1000;
console.log(
  `${out}: ${(bytes / 1e6).toFixed(0)} MB, ${tensors.length} tensors, ${seconds.toFixed(1)} s ` +
    `(${(bytes / 1e6 / seconds).toFixed(0)} MB/s)`,
);
