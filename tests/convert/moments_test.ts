/** Second moments of many inputs beside some rows of activations: what is fitted to which, and what judges. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { MOMENTS_METADATA, ORIGINS_METADATA } from "../../src/calibration/calibration.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { FormatError } from "../../src/core/errors.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { WORKER_URL } from "../support/encode.ts";
import { MeasuredPool } from "../support/measured_pool.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";

const NAME = "blocks.0.lin", ROWS = 96, COLS = 256, FEW = 64, MANY = 2048;
const LAYER = syntheticLayer({ rows: ROWS, cols: COLS, seed: 5 });

/** XᵀX / T. */
function moments(x: Float32Array): Float32Array {
  const h = new Float32Array(COLS * COLS), count = x.length / COLS;
  for (let t = 0; t < count; t++) {
    const row = x.subarray(t * COLS, (t + 1) * COLS);
    for (let i = 0; i < COLS; i++) {
      for (let j = 0; j < COLS; j++) h[i * COLS + j]! += row[i]! * row[j]! / count;
    }
  }
  return h;
}

/** Converts the layer by rows, and by second moments if there are any. */
async function convert(
  { hessian = null, inputs = MANY, metadata = {}, pool }: {
    readonly hessian?: Float32Array | null;
    /** Null: nothing says of how many inputs the moments are. */
    readonly inputs?: number | null;
    readonly metadata?: Record<string, string>;
    readonly pool?: MeasuredPool;
  },
) {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeModel(at("in.safetensors"), [
    tensorOf(`${NAME}.weight`, "F32", [ROWS, COLS], LAYER.weight),
  ]);
  const rows = tensorOf(`${NAME}.activations`, "F32", [FEW, COLS], LAYER.inputs(FEW, 3));
  const square = hessian === null
    ? []
    : [tensorOf(`${NAME}.hessian`, "F32", [COLS, COLS], hessian)];
  writeModel(at("data.safetensors"), [rows, ...square], {
    [ORIGINS_METADATA]: JSON.stringify({ [NAME]: [40, 16, 8] }),
    ...(inputs === null ? {} : { [MOMENTS_METADATA]: JSON.stringify({ [NAME]: inputs }) }),
    ...metadata,
  });
  const { layers } = await convertModel({
    input: at("in.safetensors"),
    output: at("out.safetensors"),
    options: {
      ...DEFAULT_CONVERT_OPTIONS,
      preset: { kind: "none" },
      calibrationPath: at("data.safetensors"),
    },
    workerUrl: WORKER_URL,
    workers: 1,
    force: true,
    measure: true,
    ...(pool === undefined ? {} : { pools: pool.pools }),
  });
  const output = readModel(at("out.safetensors"));
  return { layer: layers[0]!, codes: output.get(`${NAME}.weight`)!.data.slice() };
}

Deno.test("convertModel() fits a layer to second moments of more inputs than it has rows of, and is better by it", async () => {
  const pool = new MeasuredPool();
  const byRows = await convert({});
  const byMoments = await convert({ hessian: moments(LAYER.inputs(MANY, 9)), pool });
  const [few, many] = [byRows, byMoments].map(({ layer }) => layer.output!);
  assert.deepEqual([few!.on, many!.on], ["held-out rows", "held-out rows"]);
  assert.equal(many!.rows, 8);
  assert.ok(many!.w8a16 < 0.95 * few!.w8a16, `${many!.w8a16} for ${few!.w8a16}`);
  assert.equal((byMoments.layer.note as { statistic?: string }).statistic, "hessian");
  for (const { task, memory, planned, used } of pool.measured) {
    // There is room for an exact look at rows, which is not taken if integers leave no doubt.
    const most = task.kind === "quantize" && memory === "scratch" ? 1.3 : 1.1;
    const found = `${task.kind}, ${memory}: ${planned}, ${used} used`;
    assert.ok(planned >= used && planned <= most * used, found);
  }
});

Deno.test("convertModel() takes the rows if nothing says of how many inputs second moments are, or they are of fewer", async () => {
  const hessian = moments(LAYER.inputs(MANY, 9)), { codes } = await convert({});
  for (const inputs of [null, FEW]) {
    assert.deepEqual((await convert({ hessian, inputs })).codes, codes, `${inputs}`);
  }
});

Deno.test("convertModel() shrinks second moments of few inputs", async () => {
  const hessian = moments(LAYER.inputs(MANY, 9));
  const [few, many] = [await convert({ hessian, inputs: 100 }), await convert({ hessian })];
  assert.notDeepEqual(few.codes, many.codes);
});

Deno.test("convertModel() rounds to nearest what second moments make worse for the rows beside them", async () => {
  // Channels that the rows have are silent in the moments, and the other way round.
  const wrong = moments(LAYER.inputs(MANY, 9));
  const energies = Float32Array.from({ length: COLS }, (_, k) => wrong[k * (COLS + 1)]!);
  const order = [...energies.keys()].sort((a, b) => energies[a]! - energies[b]!);
  const hessian = new Float32Array(COLS * COLS);
  order.forEach((from, i) => {
    order.forEach((to, j) => {
      const [a, b] = [order[COLS - 1 - i]!, order[COLS - 1 - j]!];
      hessian[from * COLS + to] = wrong[a * COLS + b]!;
    });
  });
  const { layer } = await convert({ hessian });
  assert.ok(layer.compensated!.toNearest > ROWS / 2, `${layer.compensated!.toNearest}`);
});

Deno.test("convertModel() refuses metadata of moments that is none", async () => {
  const metadata = { [MOMENTS_METADATA]: '{"blocks.0.lin": "many"}' };
  await assert.rejects(
    convert({ metadata }),
    (error) => error instanceof FormatError && /quantsmith\.moments is no JSON/.test(error.message),
  );
});
