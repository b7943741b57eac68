import assert from "node:assert/strict";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import { GpuMoments, OutputDescent } from "../../../src/backend/webgpu/output_descent.ts";
import { HEAP, soloContext } from "../../../src/linalg/context.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import { OutputLoss } from "../../../src/quant/learned/output.ts";
import { fillColumnGroups } from "../../../src/quant/learned/layer.ts";
import { normal, uniform } from "../../kernels/values.ts";
import { assertSameBits } from "../../kernels/subject.ts";
import { testGpuOnly } from "../../support/gpu.ts";

/** Two blocks of moments; the second panel reaches over the end of the first block. */
const ROWS = 20, COLS = 150, BLOCK = 75, PANELS = [[0, 64], [64, 64], [128, 22], [0, 64]] as const;
const GRID = { rows: ROWS, cols: COLS, groupRows: 2, groupCols: 50 };

function problem() {
  const next = uniform(1), gauss = normal(2);
  const values = new Float32Array(COLS * BLOCK);
  for (let top = 0; top < COLS; top += BLOCK) {
    const x = Float32Array.from({ length: 40 * BLOCK }, gauss);
    for (let i = 0; i < BLOCK; i++) {
      for (let j = 0; j < BLOCK; j++) {
        for (let t = 0; t < 40; t++) {
          values[(top + i) * BLOCK + j]! += x[t * BLOCK + i]! * x[t * BLOCK + j]!;
        }
      }
    }
  }
  return {
    moments: { size: COLS, blockSize: BLOCK, values },
    scales: Float32Array.from({ length: 30 }, () => 0.5 + 0.5 * next()),
    columnGroups: fillColumnGroups(new Int32Array(COLS), GRID),
    codes: Int8Array.from({ length: ROWS * COLS }, () => Math.floor(next() * 200) - 100),
    errors: Float32Array.from({ length: ROWS * COLS }, () => 0.5 * next() - 0.25),
  };
}

testGpuOnly("OutputDescent moves the codes that OutputLoss moves", async (gpu) => {
  const { moments, scales, columnGroups, codes, errors } = problem();
  const layer = {
    grid: GRID,
    codes: codes.slice(),
    errors: matrix(errors.slice(), ROWS, COLS),
    scales,
    columnGroups,
  };
  const loss = new OutputLoss(soloContext(referenceLinalg, HEAP), layer, moments, false);
  const kept = await GpuMoments.upload(gpu, moments);
  const descent = await OutputDescent.open(kept, { grid: GRID, scales, columnGroups });
  const before = loss.measure();
  const gradient = new Float32Array(errors.length);
  await descent.measure(errors, gradient);
  let found = errors.reduce((sum, e, at) => sum + e * gradient[at]!, 0);
  assert(Math.abs(found / before - 1) < 1e-5, `${found} ${before}`);
  let moved = 0;
  for (const [first, cols] of PANELS) {
    const part = <T extends Int8Array | Float32Array>(array: T): T =>
      array.filter((_, at) => at % COLS >= first && at % COLS < first + cols) as T;
    const panel = { first, cols, codes: part(codes), errors: part(errors), penalty: 5 };
    const totals = new Float64Array(3), want = loss.descend(first, cols, 5);
    await descent.descend({ ...panel, totals });
    assertSameBits(panel.codes, part(layer.codes), `codes from column ${first}`);
    assertSameBits(panel.errors, part(layer.errors.data), `errors from column ${first}`);
    for (let r = 0; r < ROWS; r++) {
      codes.set(panel.codes.subarray(r * cols, (r + 1) * cols), r * COLS + first);
      errors.set(panel.errors.subarray(r * cols, (r + 1) * cols), r * COLS + first);
    }
    assert.equal(totals[0], want.count);
    assert(Math.abs(totals[2]! - want.cost) <= 1e-4 * Math.abs(want.cost));
    found += totals[1]!;
    moved += want.count;
  }
  assert(moved > 100, `${moved} moves`);
  assert(loss.loss() < 0.7 * before);
  assert(Math.abs(found / loss.loss() - 1) < 1e-4, `${found} ${loss.loss()}`);
  descent.destroy();
  kept.destroy();
});

testGpuOnly("OutputDescent refuses rows that its moments do not fit", async (gpu) => {
  const { moments, scales } = problem();
  const values = moments.values.subarray(1);
  await assert.rejects(GpuMoments.upload(gpu, { ...moments, values }), /11249 values, 150 columns/);
  const kept = await GpuMoments.upload(gpu, moments);
  const columnGroups = new Int32Array(149), grid = { ...GRID, cols: 149 };
  await assert.rejects(
    OutputDescent.open(kept, { grid, scales, columnGroups }),
    /Cannot descend: 149 columns/,
  );
  kept.destroy();
});
