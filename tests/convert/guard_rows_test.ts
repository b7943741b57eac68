/** Stored codes are no worse than rounding to nearest on the data at hand: in every row with a scale of its own. */

import { describeNote } from "../../src/run/layer_notes.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import { dequantizeModel } from "../../src/convert/dequantize.ts";
import { largestShare } from "../../src/run/chunks/guard_rows.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";
import { WORKER_URL } from "../support/encode.ts";

const NAME = "blocks.0.lin";

/** Columns that carry energy in wide layers: these are few enough for chance to decide on rows. */
const LIVELY_COLS = 32;

/** Second moments of inputs that vary by chance more than they have in common. */
function momentsOf(cols: number, inputs: (count: number, stream: number) => Float32Array) {
  const isWide = cols > 1024;
  const count = isWide ? 8 * LIVELY_COLS : Math.ceil(cols / 2), x = inputs(count, 1);
  for (let i = 0; i < x.length; i++) if (isWide && i % cols >= LIVELY_COLS) x[i]! *= 1e-3;
  const h = new Float64Array(cols * cols);
  for (let t = 0; t < count; t++) {
    for (let i = 0; i < cols; i++) {
      const xi = x[t * cols + i]! / count;
      for (let j = 0; j < cols; j++) h[i * cols + j]! += xi * x[t * cols + j]!;
    }
  }
  return Float32Array.from(h);
}

/** Squared output errors of the rows, summed over `unit` rows each. */
function objectives(w: Float32Array, stored: Float32Array, h: Float32Array, unit: number) {
  const cols = Math.sqrt(h.length), rows = w.length / cols;
  const sums = new Float64Array(rows / unit);
  for (let r = 0; r < rows; r++) {
    const error = (k: number) => w[r * cols + k]! - stored[r * cols + k]!;
    for (let i = 0; i < cols; i++) {
      let sum = 0;
      for (let k = 0; k < cols; k++) sum += h[i * cols + k]! * error(k);
      sums[Math.floor(r / unit)]! += sum * error(i);
    }
  }
  return sums;
}

const { quip } = DEFAULT_CONVERT_OPTIONS;

/** Sizes, the options, rows that share scales, and how many columns have common directions. */
const CASES: readonly [string, readonly [number, number], Partial<ConvertOptions>, number][] = [
  ["a scale per row", [96, 24], { scaling: "row" }, 1],
  ["rotated rows", [96, 16], { scaling: "row", convrot: 16 }, 1],
  ["blocks", [96, 32], { scaling: "block", blockSize: 8 }, 8],
  ["a scale per row and columns", [96, 32], {
    method: "quip",
    quip: { ...quip, requantScheme: "block" },
    blockSize: 8,
  }, 1],
  ["rows of more columns than are looked at one by one", [96, 1028], { scaling: "row" }, 1],
];

for (const [what, [rows, cols], options, unit] of CASES) {
  Deno.test(`convertModel() with a Hessian has no worse outputs than to nearest: ${what}`, async () => {
    using folder = temporaryFolder();
    using pool = new WorkerPool(WORKER_URL, 1);
    const at = (name: string) => join(folder.path, `${name}.safetensors`);
    const { weight, inputs } = syntheticLayer({ rows, cols, seed: 4, commonShare: 0.05 });
    const h = momentsOf(cols, inputs);
    writeModel(at("in"), [tensorOf(`${NAME}.weight`, "F32", [rows, cols], weight)]);
    writeModel(at("data"), [tensorOf(`${NAME}.hessian`, "F32", [cols, cols], h)]);
    const storedBy = async (more: Partial<ConvertOptions>): Promise<Float32Array> => {
      await convertModel({
        input: at("in"),
        output: at("out"),
        options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options, ...more },
        workerUrl: WORKER_URL,
        workers: 2,
        force: true,
      });
      const to = { output: at("back"), dtype: "F32", pool, force: true } as const;
      await dequantizeModel(openModel(at("out")), to);
      return new Float32Array(readModel(at("back")).get(`${NAME}.weight`)!.data.slice().buffer);
    };
    const plain = objectives(weight, await storedBy({}), h, unit);
    const fitted = objectives(weight, await storedBy({ calibrationPath: at("data") }), h, unit);
    const worse = [...fitted].filter((error, i) => error > plain[i]! * (1 + 1e-4));
    assert.deepEqual(worse, []);
    const sum = (values: Float64Array) => values.reduce((total, x) => total + x, 0);
    assert(sum(fitted) < 0.95 * sum(plain), `${sum(fitted)} of ${sum(plain)}`);
  });
}

Deno.test("largestShare() asks for a larger gain if fewer inputs show it", () => {
  const of = (rows: number) => largestShare({ statistic: "activations", rows });
  assert.deepEqual([1, 2, 8, 200].map(of), [0, 0, 0.5, 0.9]);
  assert.equal(largestShare({ statistic: "hessian", rows: 8 }), 1);
});

/** Sizes, number of inputs (0: their second moments), options. */
const COUNTED: readonly [string, readonly [number, number, number], Partial<ConvertOptions>][] = [
  ["original space", [600, 24, 24], { scaling: "row", convrot: "off", scaleSearch: "off" }],
  ["rotated", [600, 16, 24], { scaling: "row", convrot: 16, scaleSearch: "off" }],
  ["quip, original space", [600, 64, 0], { method: "quip", scaling: "row" }],
  ["quip, stored transformed", [600, 24, 24], {
    method: "quip",
    quip: { ...quip, storeTransformed: true },
    scaleSearch: "off",
  }],
];

for (const [what, [rows, cols, count], options] of COUNTED) {
  Deno.test(`convertModel() reports how many rows were rounded to nearest in spite of data: ${what}`, async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, `${name}.safetensors`);
    const { weight, inputs } = syntheticLayer({ rows, cols, seed: 4 });
    writeModel(at("in"), [tensorOf(`${NAME}.weight`, "F32", [rows, cols], weight)]);
    writeModel(at("data"), [
      count > 0
        ? tensorOf(`${NAME}.activations`, "F32", [count, cols], inputs(count, 1))
        : tensorOf(`${NAME}.hessian`, "F32", [cols, cols], momentsOf(cols, inputs)),
    ]);
    const codesOf = async (calibrationPath: string | null, workers: number) => {
      const { layers } = await convertModel({
        input: at("in"),
        output: at("out"),
        options: {
          ...DEFAULT_CONVERT_OPTIONS,
          preset: { kind: "none" },
          ...options,
          calibrationPath,
        },
        workerUrl: WORKER_URL,
        workers,
        force: true,
      });
      const out = readModel(at("out")), { data, shape } = out.get(`${NAME}.weight`)!;
      const scales = new Float32Array(out.get(`${NAME}.weight_scale`)!.data.slice().buffer);
      return { codes: new Int8Array(data), scales, width: shape[1]!, layer: layers[0]! };
    };
    const plain = await codesOf(null, 1);
    assert.equal(plain.layer.compensated, null);
    const [one, three] = [await codesOf(at("data"), 1), await codesOf(at("data"), 3)];
    // By the scales in the file, if they are not those of other methods; by theirs otherwise.
    const nearest = options.scaleSearch === "off" ? plain.codes : Int8Array.from(weight, (w, i) => {
      const code = Math.round(w / one.scales[Math.floor(i / cols)]!);
      return Math.max(-127, Math.min(127, code));
    });
    const same = Array.from({ length: one.codes.length / one.width }, (_, row) => {
      const [first, end] = [row * one.width, (row + 1) * one.width];
      return one.codes.subarray(first, end).every((code, i) => code === nearest[first + i]);
    });
    const found = same.filter((isSame) => isSame).length;
    assert(found > 0 && found < same.length, `${found}`);
    const { toNearest, all } = one.layer.compensated!;
    assert.equal(all, same.length);
    // By moments, rows that compensation did not change are as good as they were, and not counted.
    if (count > 0) assert.equal(toNearest, found);
    else assert(toNearest > found / 3 && toNearest <= found, `${toNearest} of ${found}`);
    assert.match(
      describeNote(one.layer.note, one.layer.compensated)!,
      new RegExp(`; ${toNearest} of .* rounded to nearest$`),
    );
    assert.deepEqual(three.layer, one.layer);
  });
}
