import assert from "node:assert/strict";
import fc from "fast-check";
import { asKept } from "../subnormals.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import { flavors, seeds, uniform, values } from "../values.ts";
import { assertSameOnAllDevices, testEachDevice } from "./linalg_subject.ts";

testEachDevice(
  "ldlqBlock() feeds errors back from the last column to the first",
  async (linalg, subject) => {
    const codes = subject.output(new Int8Array(), 3);
    const weights = subject.inOut(Float32Array.of(0.25, 1.25, 2.5));
    const feedback = subject.inOut(new Float32Array(4));
    const panel = subject.input(Float32Array.of(1, 0, 0, 0, 2, 1, 0, 0, 0.5, 1, 1, 0));
    await linalg.ldlqBlock({
      codes,
      codesRowStride: 3,
      weights: matrix(weights, 1, 3),
      feedback: matrix(feedback, 1, 3, 4),
      panel: matrix(panel, 3, 3, 4),
      scales: subject.input(Float32Array.of(1)),
      scaleCols: 1,
      groupRows: 1,
      firstRow: 0,
      columnGroups: subject.input(Int32Array.of(0, 0, 0) as never),
    });
    // 2.5 is a tie: 2, error 0.5; 1.25 + 0.5 -> 2, error -0.75; 0.25 + 0.25 - 1.5 = -1 -> -1.
    assert.deepEqual([...codes], [-1, 2, 2]);
    assert.deepEqual([...weights], [1.25, -0.75, 0.5]);
  },
);

testEachDevice(
  "ldlqBlock() takes each scale from its row and column group",
  async (linalg, subject) => {
    const rows = 6, width = 3;
    const codes = subject.output(new Int8Array(), rows * width);
    await linalg.ldlqBlock({
      codes,
      codesRowStride: width,
      weights: matrix(subject.inOut(new Float32Array(rows * width).fill(120)), rows, width),
      feedback: matrix(subject.inOut(new Float32Array(rows * 4)), rows, width, 4),
      panel: matrix(subject.input(Float32Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)), 3, 3, 4),
      scales: subject.input(Float32Array.of(9, 9, 1, 2, 3, 4, 5, 6, 10, 12)),
      scaleCols: 2,
      groupRows: 2,
      firstRow: 3,
      columnGroups: subject.input(Int32Array.of(1, 0, 1) as never),
    });
    // Rows 3 | 4, 5 | 6, 7 | 8 of the layer: row groups 1, 2, 3, 4.
    const want = [[2, 1, 2], [4, 3, 4], [4, 3, 4], [6, 5, 6], [6, 5, 6], [12, 10, 12]];
    assert.deepEqual([...codes], want.flat().map((scale) => 120 / scale));
  },
);

testEachDevice(
  "ldlqBlock() clamps, and gives code 0 for NaN and the rest of its row",
  async (linalg, subject) => {
    const inputs = [1e30, -1e30, 300, -127.5, NaN, 3];
    const codes = subject.output(new Int8Array(), 6);
    await linalg.ldlqBlock({
      codes,
      codesRowStride: 1,
      weights: matrix(subject.inOut(Float32Array.from(inputs)), 6, 1),
      feedback: matrix(subject.inOut(new Float32Array(24)), 6, 1, 4),
      panel: matrix(subject.input(Float32Array.of(1, 0, 0, 0)), 1, 1, 4),
      scales: subject.input(new Float32Array(6).fill(1)),
      scaleCols: 1,
      groupRows: 1,
      firstRow: 0,
      columnGroups: subject.input(Int32Array.of(0) as never),
    });
    assert.deepEqual([...codes], [127, -127, 127, -127, 0, 3]);
  },
);

testEachDevice(
  "ldlqBlock() has the code -0 for what rounds up to zero",
  async (linalg, subject) => {
    const weights = subject.inOut(Float32Array.of(-0));
    await linalg.ldlqBlock({
      codes: subject.output(new Int8Array(), 1),
      codesRowStride: 1,
      weights: matrix(weights, 1, 1),
      feedback: matrix(subject.inOut(Float32Array.of(-0.3, 0, 0, 0)), 1, 1, 4),
      panel: matrix(subject.input(Float32Array.of(1, 0, 0, 0)), 1, 1, 4),
      scales: subject.input(Float32Array.of(1)),
      scaleCols: 1,
      groupRows: 1,
      firstRow: 0,
      columnGroups: subject.input(Int32Array.of(0) as never),
    });
    // -0 - (-0 * 1): the sign of a rounded zero decides that of the error.
    assert(Object.is(weights[0], 0));
  },
);

Deno.test("ldlqBlock() gives the same on every device for any shapes and values", async () => {
  const shape = fc.record({
    rows: fc.nat(13),
    width: fc.integer({ min: 1, max: 21 }),
    gap: fc.nat(3),
    groupRows: fc.integer({ min: 1, max: 4 }),
    scaleCols: fc.integer({ min: 1, max: 3 }),
    firstRow: fc.nat(9),
  });
  await fc.assert(
    fc.asyncProperty(seeds, shape, flavors, async (seed, shape, flavor) => {
      const { rows, width, gap, groupRows, scaleCols, firstRow } = shape;
      const stride = Math.ceil(width / 4) * 4, next = uniform(seed);
      const weights = await asKept(values(seed, rows * (width + gap), flavor));
      const feedback = values(seed + 1, rows * stride, "plain");
      const panel = values(seed + 2, width * stride, "plain").map((x) => x * 10);
      const groups = Math.ceil((firstRow + rows) / groupRows) + 1;
      const scales = Float32Array.from({ length: groups * scaleCols }, () => next() * 0.01);
      const columnGroups = Int32Array.from({ length: width }, () => Math.floor(next() * scaleCols));
      await assertSameOnAllDevices(
        JSON.stringify({ seed, flavor, ...shape }),
        async (linalg, subject) => {
          const codes = subject.inOut(new Int8Array(rows * (width + gap)).fill(55));
          const x = subject.inOut(weights);
          await linalg.ldlqBlock({
            codes,
            codesRowStride: width + gap,
            weights: matrix(x, rows, width, width + gap),
            feedback: matrix(subject.inOut(feedback), rows, width, stride),
            panel: matrix(subject.input(panel), width, width, stride),
            scales: subject.input(scales),
            scaleCols,
            groupRows,
            firstRow,
            columnGroups: subject.input(columnGroups as never),
          });
          return [codes, x];
        },
      );
    }),
    { numRuns: 200 },
  );
});

Deno.test("ldlqBlock() gives the same on every device for whole blocks of many rows", async () => {
  for (const [rows, width] of [[37, 128], [16, 100], [5, 127]] as const) {
    const weights = values(1, rows * width, "plain"), stride = 128;
    const panel = values(2, width * stride, "plain"), columnGroups = new Int32Array(width);
    const scales = Float32Array.from({ length: rows }, (_, r) => 0.001 + r * 1e-5);
    await assertSameOnAllDevices(`${rows} x ${width}`, async (linalg, subject) => {
      const codes = subject.output(new Int8Array(), rows * width), x = subject.inOut(weights);
      await linalg.ldlqBlock({
        codes,
        codesRowStride: width,
        weights: matrix(x, rows, width),
        feedback: matrix(subject.inOut(new Float32Array(rows * stride)), rows, width, stride),
        panel: matrix(subject.input(panel), width, width, stride),
        scales: subject.input(scales),
        scaleCols: 1,
        groupRows: 1,
        firstRow: 0,
        columnGroups: subject.input(columnGroups as never),
      });
      return [codes, x];
    });
  }
});

testEachDevice("ldlqBlock() rejects sizes that would reach beyond its arrays", async (linalg) => {
  const good = {
    codes: new Int8Array(2),
    codesRowStride: 2,
    weights: matrix(new Float32Array(2), 1, 2),
    feedback: matrix(new Float32Array(4), 1, 2, 4),
    panel: matrix(new Float32Array(8), 2, 2, 4),
    scales: new Float32Array(2),
    scaleCols: 2,
    groupRows: 1,
    firstRow: 0,
    columnGroups: Int32Array.of(0, 1),
  };
  const rejects = (change: Partial<typeof good>, message: RegExp) =>
    assert.rejects(async () => await linalg.ldlqBlock({ ...good, ...change }), message);
  await rejects({ columnGroups: Int32Array.of(0, 2) }, /columnGroups must be within 0 to 1/);
  await rejects({ columnGroups: Int32Array.of(0) }, /columnGroups has 1 elements, needs 2/);
  await rejects({ firstRow: 1 }, /scales has 2 elements, needs 4/);
  await rejects({ groupRows: 0 }, /groups of 0 rows/);
  await rejects(
    { feedback: matrix(new Float32Array(4), 1, 2, 2) },
    /rows of feedback must have room/,
  );
  await rejects({ panel: matrix(new Float32Array(7), 2, 2, 4) }, /its last row needs room for 4/);
  await rejects({ codes: new Int8Array(1) }, /codes reaches over 2 elements, has 1/);
});
