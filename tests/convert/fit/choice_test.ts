import assert from "node:assert/strict";
import { join } from "node:path";
import { rotate } from "../../../src/backend/reference/rotate.ts";
import { prepareFitted } from "../../../src/convert/fit/prepare_fitted.ts";
import { fillNormal, randomFor } from "../../../src/core/rng.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../../src/plan/options.ts";
import { temporaryFolder, tensorOf, writeModel } from "../../support/model_files.ts";

const ROWS = 512, COLS = 64;

/** Rows in whose rotated form nothing is lost, but for heads whose rows have one large value. */
function rowsInHeads(): Float32Array {
  const next = randomFor(1, "heads"), w = new Float32Array(ROWS * COLS);
  for (let row = 0; row < ROWS; row++) {
    const isPoor = (row >= 40 && row < 150) || (row >= 200 && row < 320);
    for (let k = 0; k < COLS; k++) {
      const sign = next() % 2 === 0 ? 1 : -1;
      w[row * COLS + k] = isPoor ? (k === row % COLS ? 8 : 0.05 * sign) : sign;
    }
  }
  rotate(w, COLS);
  return w;
}

Deno.test("prepareFitted() sees layers whose heads differ: a sample of few bands of rows does not", async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "in.safetensors"), normal = new Float32Array(ROWS * COLS);
  fillNormal(normal, randomFor(1, "normal"));
  writeModel(path, [
    tensorOf("blocks.0.heads.weight", "F32", [ROWS, COLS], rowsInHeads()),
    tensorOf("blocks.0.plain.weight", "F32", [ROWS, COLS], normal),
  ]);
  const options = { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } as const };
  const { outputBytes } = (await prepareFitted(path, options, { dryRun: true })).plan.totals;
  const { fit } = await prepareFitted(path, {
    ...options,
    fit: { bytes: outputBytes + ROWS * COLS },
  }, { dryRun: true });
  assert.deepEqual(fit!.layers.map(({ name, format }) => [name, format]), [
    ["blocks.0.heads.weight", "bf16"],
    ["blocks.0.plain.weight", "int8"],
  ]);
});

Deno.test("prepareFitted() counts layers by their size", async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "in.safetensors"), next = randomFor(1, "sizes");
  const weight = (name: string, rows: number) => {
    const values = new Float32Array(rows * COLS);
    fillNormal(values, next);
    return tensorOf(`blocks.0.${name}.weight`, "F32", [rows, COLS], values);
  };
  writeModel(path, [weight("large", 2048), weight("small", 64)]);
  const { fit } = await prepareFitted(path, {
    ...DEFAULT_CONVERT_OPTIONS,
    preset: { kind: "none" },
    fitFormats: ["int8", "w4a8"],
    fit: { share: 0.5 },
  }, { dryRun: true });
  const [large, small] = fit!.layers;
  const whole = (2048 * large!.error ** 2 + 64 * small!.error ** 2) / (2048 + 64);
  assert(Math.abs(fit!.error ** 2 / whole - 1) < 1e-9, `${fit!.error}`);
});
