import assert from "node:assert/strict";
import fc from "fast-check";
import { type Grid, groupCount } from "../../src/backend/backend.ts";
import { assertSameBits, assertSameOnAllBackends, testEachBackend } from "./subject.ts";
import { flavors, grids, LENGTHS, seeds, uniform, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

interface Case extends Grid {
  x: Packed<"f32">;
  scales: Packed<"f32">;
  codes: Packed<"i8">;
}

for (const { name, x, scales, codes, ...grid } of readVectors<Case>("quantize")) {
  testEachBackend(`quantize() gives the golden codes of ${name}`, async (subject) => {
    const want = unpack(codes);
    const got = subject.output(want, want.length);
    await subject.kernels.quantize(
      got,
      subject.input(unpack(x)),
      subject.input(unpack(scales)),
      grid,
    );
    assertSameBits(got, want, name);
  });
}

async function codesOfRow(
  subject: Parameters<Parameters<typeof testEachBackend>[1]>[0],
  x: number[],
) {
  const codes = subject.output(new Int8Array(), x.length);
  const grid = { rows: 1, cols: x.length, groupRows: 1, groupCols: x.length };
  const scales = subject.input(new Float32Array([1]));
  await subject.kernels.quantize(codes, subject.input(new Float32Array(x)), scales, grid);
  return [...codes];
}

testEachBackend("quantize() rounds ties to even, clamps, and gives 0 for NaN", async (subject) => {
  const x = [
    0.5,
    1.5,
    2.5,
    -0.5,
    -1.5,
    -2.5,
    126.5,
    127.5,
    -127.5,
    -128,
    1e30,
    -1e30,
    NaN,
    5,
    6,
    7,
  ];
  const want = [0, 2, 2, 0, -2, -2, 126, 127, -127, -127, 127, -127, 0, 5, 6, 7];
  // Once as a vector, once through the path for short rows.
  assert.deepEqual(await codesOfRow(subject, x), want);
  assert.deepEqual(await codesOfRow(subject, x.slice(0, 13)), want.slice(0, 13));
});

testEachBackend(
  "quantize() divides if a multiplication by the reciprocal differs",
  async (s) => {
    const next = uniform(9);
    const many = Float32Array.from(
      { length: 20_000 },
      () => (Math.floor(next() * 200) + 0.5) * 0.37,
    );
    const by = new Float32Array([0.37]);
    const got = s.output(new Int8Array(), many.length);
    const row = { rows: 1, cols: many.length, groupRows: 1, groupCols: many.length };
    await s.kernels.quantize(got, s.input(many), s.input(by), row);
    const reciprocal = Math.fround(1 / by[0]!);
    let differing = 0;
    many.forEach((value, i) => {
      const quotient = Math.fround(value / by[0]!), product = Math.fround(value * reciprocal);
      if (quotient !== product) {
        differing++;
      }
      const low = Math.floor(quotient), rest = quotient - low;
      const want = rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
      assert.equal(got[i], Math.min(127, want), `at ${i}: ${value} / ${by[0]}`);
    });
    assert(differing > 0, "the two forms differ on this data");
  },
);

async function compare(seed: number, grid: Grid, x: Float32Array): Promise<void> {
  const next = uniform(seed);
  const odd = [0, 1e-30, 1e-45, NaN, Infinity, 3e38, -0.01];
  const scales = Float32Array.from(
    { length: groupCount(grid) },
    () => next() < 0.2 ? odd[Math.floor(next() * odd.length)]! : next() * 0.003,
  );
  await assertSameOnAllBackends(`seed ${seed}, ${JSON.stringify(grid)}`, async (subject) => {
    const codes = subject.output(new Int8Array(), x.length);
    await subject.kernels.quantize(codes, subject.input(x), subject.input(scales), grid);
    return [codes];
  });
}

Deno.test("quantize() gives the same on every backend for any grid, values and scales", async () => {
  await fc.assert(
    fc.asyncProperty(seeds, grids, flavors, async (seed, grid, flavor) => {
      await compare(seed, grid, values(seed, grid.rows * grid.cols, flavor));
    }),
    { numRuns: 200 },
  );
});

Deno.test("quantize() gives the same on every backend at every length of a row", async () => {
  for (const cols of LENGTHS.filter((length) => length > 0)) {
    const grid = { rows: 3, cols, groupRows: 1, groupCols: cols };
    await compare(cols, grid, values(cols, 3 * cols, "nasty"));
  }
});

Deno.test("quantize() gives the same on every backend for every size of quotient", async () => {
  // Every exponent, both signs, some mantissas: the rounding by addition must hold everywhere.
  const bits = Uint32Array.from(
    { length: 512 * 16 },
    (_, k) => ((k >> 4) << 23) | ((k & 15) << 19),
  );
  const x = new Float32Array(bits.buffer);
  const grid = { rows: 1, cols: x.length, groupRows: 1, groupCols: x.length };
  await assertSameOnAllBackends("all exponents", async (subject) => {
    const codes = subject.output(new Int8Array(), x.length);
    const scales = subject.input(new Float32Array([1]));
    await subject.kernels.quantize(codes, subject.input(x), scales, grid);
    return [codes];
  });
});
