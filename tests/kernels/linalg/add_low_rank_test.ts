import assert from "node:assert/strict";
import fc from "fast-check";
import { asKept } from "../subnormals.ts";
import { flavors, seeds, values } from "../values.ts";
import { assertSameOnAllDevices, testEachDevice } from "./linalg_subject.ts";

testEachDevice("addLowRank() adds a product worked out by hand", async (linalg, subject) => {
  const x = subject.inOut(Float32Array.of(1, 2, 3, 4));
  const b = subject.input(Float32Array.of(1, 2, 3, 4)),
    a = subject.input(Float32Array.of(5, 6, 7, 8));
  await linalg.addLowRank(x, b, a, { rows: 2, cols: 2, rank: 2 });
  assert.deepEqual([...x], [1 + 19, 2 + 22, 3 + 43, 4 + 50]);
});

testEachDevice(
  "addLowRank() rounds the change, not the weight, per term",
  async (linalg, subject) => {
    const rank = 64;
    const x = subject.inOut(Float32Array.of(1)), small = new Float32Array(rank).fill(2 ** -14);
    await linalg.addLowRank(x, subject.input(small), subject.input(small), {
      rows: 1,
      cols: 1,
      rank,
    });
    assert.equal(x[0], 1 + 2 ** -22);
  },
);

Deno.test("addLowRank() gives the same on every backend for any shapes and values", async () => {
  const shape = fc.record({
    rows: fc.nat(13),
    cols: fc.integer({ min: 1, max: 150 }),
    rank: fc.nat(20),
  });
  await fc.assert(
    fc.asyncProperty(seeds, shape, flavors, async (seed, shape, flavor) => {
      const { rows, cols, rank } = shape;
      await assertSameOnAllDevices(
        `seed ${seed}, ${JSON.stringify(shape)}`,
        async (linalg, subject) => {
          const x = subject.inOut(await asKept(values(seed, rows * cols, flavor)));
          const b = subject.input(values(seed + 1, rows * rank, "plain"));
          const a = subject.input(await asKept(values(seed + 2, rank * cols, flavor)));
          await linalg.addLowRank(x, b, a, shape);
          return [x];
        },
      );
    }),
    { numRuns: 100 },
  );
});

Deno.test("addLowRank() gives the same on every device beyond its tiles", async () => {
  for (const shape of [{ rows: 150, cols: 70, rank: 40 }, { rows: 5, cols: 11, rank: 4100 }]) {
    await compareShape(shape);
  }
});

async function compareShape(shape: { rows: number; cols: number; rank: number }): Promise<void> {
  await assertSameOnAllDevices(JSON.stringify(shape), async (linalg, subject) => {
    const x = subject.inOut(values(1, shape.rows * shape.cols, "plain"));
    const b = subject.input(values(2, shape.rows * shape.rank, "plain"));
    const a = subject.input(values(3, shape.rank * shape.cols, "plain"));
    await linalg.addLowRank(x, b, a, shape);
    return [x];
  });
}

testEachDevice("addLowRank() refuses sizes that do not fit", async (linalg) => {
  const of = (length: number) => new Float32Array(length);
  await assert.rejects(
    async () => await linalg.addLowRank(of(5), of(2), of(3), { rows: 2, cols: 3, rank: 1 }),
    /x has 5 elements, needs 6/,
  );
  await assert.rejects(
    async () => await linalg.addLowRank(of(6), of(2), of(4), { rows: 2, cols: 3, rank: 1 }),
    /a has 4 elements, needs 3/,
  );
});
