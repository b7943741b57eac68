/** Compensation by rows that say nothing of other rows is found out by those that nothing was fitted to. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";
import { WORKER_URL } from "../support/encode.ts";

const NAME = "blocks.0.lin", ROWS = 160, COLS = 256, TOKENS = 128;

/** Converts a layer with `activations`; returns its codes, and how many rows were rounded to nearest. */
async function convert(
  activations: Float32Array | null,
  options: Partial<ConvertOptions> & { readonly workers?: number },
) {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors"), data = join(folder.path, "data.safetensors");
  const output = join(folder.path, "out.safetensors");
  const { weight } = syntheticLayer({ rows: ROWS, cols: COLS, seed: 5 });
  writeModel(input, [tensorOf(`${NAME}.weight`, "F32", [ROWS, COLS], weight)]);
  if (activations !== null) {
    writeModel(data, [tensorOf(`${NAME}.activations`, "F32", [TOKENS, COLS], activations)]);
  }
  const { workers = 2, ...rest } = options;
  const { layers } = await convertModel({
    input,
    output,
    options: {
      ...DEFAULT_CONVERT_OPTIONS,
      preset: { kind: "none" },
      calibrationPath: activations === null ? null : data,
      ...rest,
    },
    workerUrl: WORKER_URL,
    workers,
    force: true,
  });
  const codes = readModel(output).get(`${NAME}.weight`)!.data.slice();
  return { codes, toNearest: layers[0]!.compensated?.toNearest ?? null };
}

/** Inputs of the layer; those of the last eighth have other directions, loud ones, than all before. */
function changingInputs(): Float32Array {
  const { inputs } = syntheticLayer({ rows: ROWS, cols: COLS, seed: 5 });
  const x = inputs(TOKENS, 1), others = inputs(TOKENS, 2);
  for (let t = 0; t < TOKENS; t++) {
    const isLast = t >= TOKENS - TOKENS / 8;
    for (let k = 0; k < COLS; k++) {
      // Two halves of the channels are silent in turn.
      const isLoud = (k < COLS / 2) !== isLast;
      x[t * COLS + k] = isLoud ? x[t * COLS + k]! : others[t * COLS + k]! * 1e-3;
    }
  }
  return x;
}

for (const scaling of ["row", "tensor"] as const) {
  Deno.test(`convertModel() rounds to nearest what compensation makes worse for held-out rows, ${scaling}`, async () => {
    const x = changingInputs();
    const plain = await convert(null, { scaling, convrot: "off" });
    const fitted = await convert(x, { scaling, convrot: "off", calibrationHoldout: 0 });
    const held = await convert(x, { scaling, convrot: "off" });
    assert.notDeepEqual(fitted.codes, plain.codes, "compensation has moved codes");
    assert.equal(held.toNearest, ROWS);
    if (scaling === "row") assert.deepEqual(held.codes, plain.codes);
  });
}

Deno.test("convertModel() keeps compensation that helps held-out rows, by any number of workers", async () => {
  const { inputs } = syntheticLayer({ rows: ROWS, cols: COLS, seed: 5 });
  const x = inputs(TOKENS, 1);
  const one = await convert(x, { workers: 1 }), three = await convert(x, { workers: 3 });
  assert.deepEqual(one.codes, three.codes);
  assert.ok(one.toNearest! < ROWS / 4, `${one.toNearest} rows`);
});
