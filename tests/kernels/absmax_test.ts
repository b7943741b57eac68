import fc from "fast-check";
import { type Grid, groupCount } from "../../src/backend/backend.ts";
import { assertSameBits, assertSameOnAllBackends, testEachBackend } from "./subject.ts";
import { flavors, grids, LENGTHS, seeds, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

interface Case extends Grid {
  x: Packed<"f32">;
  out: Packed<"f32">;
}

for (const { name, x, out, ...grid } of readVectors<Case>("absmax")) {
  testEachBackend(`absmax() gives the golden maxima of ${name}`, async (subject) => {
    const want = unpack(out);
    const got = subject.output(want, want.length);
    await subject.kernels.absmax(got, subject.input(unpack(x)), grid);
    assertSameBits(got, want, name);
  });
}

async function compare(seed: number, grid: Grid, x: Float32Array): Promise<void> {
  const context = `seed ${seed}, ${JSON.stringify(grid)}`;
  await assertSameOnAllBackends(context, async (subject) => {
    const out = subject.output(new Float32Array(), groupCount(grid));
    await subject.kernels.absmax(out, subject.input(x), grid);
    return [out];
  });
}

Deno.test("absmax() gives the same on every backend for any grid and values", async () => {
  await fc.assert(
    fc.asyncProperty(seeds, grids, flavors, async (seed, grid, flavor) => {
      await compare(seed, grid, values(seed, grid.rows * grid.cols, flavor));
    }),
    { numRuns: 150 },
  );
});

testEachBackend("absmax() finds a value at every place, among zeros and among NaN", async (s) => {
  for (const cols of LENGTHS.filter((length) => length > 0 && length <= 64)) {
    const grid = { rows: cols, cols, groupRows: 1, groupCols: cols };
    for (const others of [0, NaN]) {
      const x = new Float32Array(cols * cols).fill(others);
      for (let r = 0; r < cols; r++) x[r * cols + r] = -1 - r;
      const out = s.output(x, cols);
      await s.kernels.absmax(out, s.input(x), grid);
      const want = Float32Array.from(out, (_, r) => 1 + r);
      assertSameBits(out, want, `rows of ${cols} among ${others}`);
    }
  }
});

Deno.test("absmax() gives the same on every backend if bands are cut", async () => {
  const grid = { rows: 6, cols: 20_001, groupRows: 2, groupCols: 6667 };
  await compare(5, grid, values(5, grid.rows * grid.cols, "plain"));
});
