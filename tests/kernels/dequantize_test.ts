import fc from "fast-check";
import { type Grid, groupCount } from "../../src/backend/backend.ts";
import { assertSameBits, assertSameOnAllBackends, testEachBackend } from "./subject.ts";
import { grids, LENGTHS, seeds, uniform, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

interface Case extends Grid {
  codes: Packed<"i8">;
  scales: Packed<"f32">;
  out: Packed<"f32">;
}

for (const { name, codes, scales, out, ...grid } of readVectors<Case>("dequantize")) {
  testEachBackend(`dequantize() gives the golden values of ${name}`, async (subject) => {
    const want = unpack(out);
    const got = subject.output(want, want.length);
    await subject.kernels.dequantize(
      got,
      subject.input(unpack(codes)),
      subject.input(unpack(scales)),
      grid,
    );
    assertSameBits(got, want, name);
  });
}

async function compare(seed: number, grid: Grid): Promise<void> {
  const next = uniform(seed);
  const codes = Int8Array.from({ length: grid.rows * grid.cols }, () => next() * 256);
  const scales = values(seed, groupCount(grid), "nasty");
  await assertSameOnAllBackends(`seed ${seed}, ${JSON.stringify(grid)}`, async (subject) => {
    const out = subject.output(new Float32Array(), codes.length);
    await subject.kernels.dequantize(out, subject.input(codes), subject.input(scales), grid);
    return [out];
  });
}

Deno.test("dequantize() gives the same on every backend for any grid, codes and scales", async () => {
  await fc.assert(fc.asyncProperty(seeds, grids, compare), { numRuns: 150 });
});

Deno.test("dequantize() gives the same on every backend at every length of a row", async () => {
  for (const cols of LENGTHS.filter((length) => length > 0)) {
    await compare(cols, { rows: 2, cols, groupRows: 1, groupCols: cols });
  }
});
