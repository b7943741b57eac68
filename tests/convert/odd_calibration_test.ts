/**
 * Calibration data that says little, or is not true: the outputs of layers for other inputs must be no worse
 * than those of layers that were converted without data.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import { dequantizeModel } from "../../src/convert/dequantize.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { type SyntheticLayer, syntheticLayer } from "../support/synthetic_layer.ts";
import { WORKER_URL } from "../support/encode.ts";

const ROWS = 32, COLS = 128, TOKENS = 256, HELD_OUT = 48;

/** Calibration data of a layer: its field and numbers. */
interface Data {
  readonly field: "activations" | "hessian" | "channel_max";
  readonly values: Float32Array;
}

const activations = (values: Float32Array): Data => ({ field: "activations", values });

/** Second moments of `count` inputs. */
function hessianOf(x: Float32Array, count: number): Data {
  const values = new Float32Array(COLS * COLS);
  for (let i = 0; i < COLS; i++) {
    for (let j = 0; j < COLS; j++) {
      let sum = 0;
      for (let t = 0; t < count; t++) sum += x[t * COLS + i]! * x[t * COLS + j]!;
      values[i * COLS + j] = sum / count;
    }
  }
  return { field: "hessian", values };
}

const column = (i: number) => i % COLS;

/** Odd data by name. Layers still see the inputs of `syntheticLayer`, these channels too. */
const ODD: Readonly<Record<string, (layer: SyntheticLayer) => Data>> = {
  "one input": (layer) => activations(layer.inputs(1, 1)),
  "the same input again and again": (layer) => {
    const x = layer.inputs(1, 1);
    return activations(Float32Array.from({ length: TOKENS * COLS }, (_, i) => x[column(i)]!));
  },
  "channels of zeros": (layer) =>
    activations(layer.inputs(TOKENS, 1).map((x, i) => column(i) % 3 === 0 ? 0 : x)),
  "channels that are constant": (layer) =>
    activations(layer.inputs(TOKENS, 1).map((x, i) => column(i) % 8 === 0 ? 3 : x)),
  "nothing but constants": () => activations(new Float32Array(TOKENS * COLS).fill(1)),
  "only one channel": (layer) =>
    activations(layer.inputs(TOKENS, 1).map((x, i) => column(i) === 5 ? x : 0)),
  "enormous inputs": (layer) => activations(layer.inputs(TOKENS, 1).map((x) => x * 1e30)),
  "vanishing inputs": (layer) => activations(layer.inputs(TOKENS, 1).map((x) => x * 1e-30)),
  "a Hessian of four inputs": (layer) => hessianOf(layer.inputs(4, 1), 4),
  "a Hessian with rows of zeros": (layer) =>
    hessianOf(layer.inputs(TOKENS, 1).map((x, i) => column(i) % 3 === 0 ? 0 : x), TOKENS),
  "a Hessian of ones": () => ({
    field: "hessian",
    values: new Float32Array(COLS * COLS).fill(1),
  }),
  "maxima, every other one zero": () => ({
    field: "channel_max",
    values: Float32Array.from({ length: COLS }, (_, k) => k % 2),
  }),
};

/** Data that is not true of the inputs, which nothing shows. */
const UNTRUE = new Set(["nothing but constants", "a Hessian of ones"]);

/** A layer with the name it has in the file, and its data. */
interface Entry {
  readonly name: string;
  readonly what: string;
  readonly layer: SyntheticLayer;
  readonly data: Data;
}

/** Calls `body` with what returns the output errors of all entries, in their order. */
async function withEntries(
  entries: readonly Entry[],
  body: (errors: (options: Partial<ConvertOptions>) => Promise<number[]>, path: string) => Promise<
    void
  >,
): Promise<void> {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors"), path = join(folder.path, "data.safetensors");
  const output = join(folder.path, "out.safetensors"), restored = `${output}.float`;
  writeModel(
    input,
    entries.map(({ name, layer: { rows, cols, weight } }) =>
      tensorOf(`${name}.weight`, "F32", [rows, cols], weight)
    ),
  );
  writeModel(
    path,
    entries.map(({ name, layer: { cols }, data: { field, values } }) => {
      const shape = field === "channel_max" ? [cols] : [values.length / cols, cols];
      return tensorOf(`${name}.${field}`, "F32", shape, values);
    }),
  );
  using pool = new WorkerPool(WORKER_URL, 1);
  await body(async (options) => {
    const all = { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options } as const;
    await convertModel({
      input,
      output,
      options: all,
      workerUrl: WORKER_URL,
      workers: 2,
      force: true,
    });
    await dequantizeModel(openModel(output), { output: restored, dtype: "F32", pool, force: true });
    const model = readModel(restored);
    return entries.map(({ name, layer }) => {
      const bytes = model.get(`${name}.weight`)!.data.slice();
      return outputError(layer, new Float32Array(bytes.buffer));
    });
  }, path);
}

/** Root of the summed squared output errors for inputs that no data was made from. */
function outputError({ rows, cols, weight, inputs }: SyntheticLayer, stored: Float32Array): number {
  const x = inputs(HELD_OUT, 77);
  let sum = 0;
  for (let t = 0; t < HELD_OUT; t++) {
    for (let r = 0; r < rows; r++) {
      let error = 0;
      for (let k = 0; k < cols; k++) {
        error += x[t * cols + k]! * (weight[r * cols + k]! - stored[r * cols + k]!);
      }
      sum += error * error;
    }
  }
  return Math.sqrt(sum);
}

const { quip } = DEFAULT_CONVERT_OPTIONS;

const MODES: Readonly<Record<string, Partial<ConvertOptions>>> = {
  "by default, rotated": {},
  "row": { scaling: "row" },
  "block": { scaling: "block", blockSize: 16 },
  "tensor": { scaling: "tensor" },
  "quip": { method: "quip" },
  "quip stored transformed": { method: "quip", quip: { ...quip, storeTransformed: true } },
};

/** Layers per kind of data: a single one has a few loud channels that say more of chance than of data. */
const LAYERS = 4;

Deno.test("convertModel() with data that says little makes outputs no worse than without", async (t) => {
  const entries = Object.entries(ODD).flatMap(([what, make], kind) =>
    Array.from({ length: LAYERS }, (_, index): Entry => {
      const layer = syntheticLayer({ rows: ROWS, cols: COLS, seed: 31 * kind + index });
      return { name: `blocks.${kind}.${index}`, what, layer, data: make(layer) };
    })
  );
  await withEntries(entries, async (errors, calibrationPath) => {
    for (const [mode, options] of Object.entries(MODES)) {
      await t.step(mode, async () => {
        const plain = await errors(options);
        const fitted = await errors({ ...options, calibrationPath });
        const worse: string[] = [];
        for (const what of Object.keys(ODD)) {
          let log = 0;
          entries.forEach((entry, i) => {
            if (entry.what === what) log += Math.log(fitted[i]! / plain[i]!) / LAYERS;
          });
          const ratio = Math.exp(log);
          if (!(ratio <= (UNTRUE.has(what) ? 1.1 : 1.02))) {
            worse.push(`${what}: ${ratio} of the error without data`);
          }
        }
        assert.deepEqual(worse, []);
      });
    }
  });
});

Deno.test("convertModel() compensates layers of every shape", async (t) => {
  const shapes = [[1, 64], [40, 1], [1, 1], [40, 100], [40, 60], [40, 37], [40, 12], [3, 250]];
  const entries = shapes.flatMap(([rows = 0, cols = 0], index) =>
    // The only output of one row: chance has its part in how much it is off.
    Array.from({ length: rows === 1 ? 8 : 1 }, (_, k): Entry => {
      const layer = syntheticLayer({ rows, cols, seed: 600 + index + 31 * k });
      const data = activations(layer.inputs(TOKENS, 1));
      return { name: `blocks.${index}.${k}`, what: `${rows} x ${cols}`, layer, data };
    })
  );
  await withEntries(entries, async (errors, calibrationPath) => {
    for (const mode of ["by default, rotated", "row", "quip", "quip stored transformed"]) {
      await t.step(mode, async () => {
        const plain = await errors(MODES[mode]!);
        const fitted = await errors({ ...MODES[mode]!, calibrationPath });
        for (const shape of new Set(entries.map(({ what }) => what))) {
          const ratios = entries.flatMap(({ what }, i) =>
            what === shape ? [(fitted[i]! + 1e-6) / (plain[i]! + 1e-6)] : []
          );
          const log = ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length;
          const most = shape.startsWith("1 x") ? 1.2 : 1.001;
          assert.ok(Math.exp(log) <= most, `${shape}: ${Math.exp(log)} of the error without data`);
        }
      });
    }
  });
});
