import { type Grid, groupCount } from "../../../src/backend/backend.ts";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { Batch } from "../../../src/backend/webgpu/batch.ts";
import { recordInt8Linear } from "../../../src/backend/webgpu/record_int8_linear.ts";
import { HEAP } from "../../../src/linalg/context.ts";
import { int8Linear } from "../../../src/quant/int8_ops.ts";
import { assertSameBits } from "../../kernels/subject.ts";
import { uniform } from "../../kernels/values.ts";
import { testGpuOnly } from "../../support/gpu.ts";

const REFERENCE = { kernels: referenceKernels, linalg: referenceLinalg, memory: HEAP };

const SHAPES: readonly { name: string; m: number; grid: Grid; convrotGroupSize: number | null }[] =
  [
    {
      name: "one scale a row",
      m: 5,
      grid: { rows: 70, cols: 33, groupRows: 1, groupCols: 33 },
      convrotGroupSize: null,
    },
    {
      name: "blocks of 2 x 30",
      m: 70,
      grid: { rows: 6, cols: 90, groupRows: 2, groupCols: 30 },
      convrotGroupSize: null,
    },
    {
      name: "rotated inputs",
      m: 9,
      grid: { rows: 8, cols: 512, groupRows: 1, groupCols: 512 },
      convrotGroupSize: 256,
    },
  ];

for (const { name, m, grid, convrotGroupSize } of SHAPES) {
  testGpuOnly(`recordInt8Linear() gives the outputs of the runtime with ${name}`, async (gpu) => {
    const next = uniform(1), { rows: n, cols: k } = grid;
    const x = Float32Array.from({ length: m * k }, () => 2 * next() - 1);
    const codes = Int8Array.from({ length: n * k }, () => Math.floor(next() * 255) - 127);
    const scales = Float32Array.from({ length: groupCount(grid) }, () => 0.01 * next());
    const want = new Float32Array(m * n), got = new Float32Array(m * n);
    const space = convrotGroupSize === null
      ? { kind: "original" } as const
      : { kind: "convrot", groupSize: convrotGroupSize } as const;
    int8Linear(REFERENCE, want, x, { codes, scales, grid, space });
    const batch = new Batch("int8 layer");
    const out = batch.scratch("out", got.byteLength);
    recordInt8Linear(batch, out, {
      x: batch.input("x", x),
      codes: batch.input("codes", codes),
      scales: batch.input("scales", scales),
      ...{ m, grid, convrotGroupSize },
    });
    batch.output(out, got);
    await batch.run(gpu);
    assertSameBits(got, want, name);
  });
}
