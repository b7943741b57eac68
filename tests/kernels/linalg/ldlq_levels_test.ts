import assert from "node:assert/strict";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import { groupedLevels, levelTables } from "../../../src/quant/level_grid.ts";
import { asKept } from "../subnormals.ts";
import { normal, uniform, values } from "../values.ts";
import { assertSameOnAllDevices, testEachDevice } from "./linalg_subject.ts";

const take = (count: number) => new Uint8Array(count);
const INT4 = levelTables({ kind: "int4", bits: 4 }, take);

testEachDevice("ldlqLevels() feeds back what levels leave of weights", async (linalg, subject) => {
  const codes = subject.output(new Int8Array(), 3);
  const weights = subject.inOut(Float32Array.of(0.25, 1.25, 9.5));
  await linalg.ldlqLevels({
    codes,
    codesRowStride: 3,
    weights: matrix(weights, 1, 3),
    feedback: matrix(subject.inOut(new Float32Array(4)), 1, 3, 4),
    panel: matrix(subject.input(Float32Array.of(1, 0, 0, 0, 2, 1, 0, 0, 0.5, 1, 1, 0)), 3, 3, 4),
    scales: subject.input(Float32Array.of(1)),
    scaleCols: 1,
    groupRows: 1,
    firstRow: 0,
    columnGroups: subject.input(Int32Array.of(0, 0, 0) as never),
    levels: {
      choices: subject.input(Uint8Array.of(0)),
      across: 1,
      columnSets: subject.input(Int32Array.of(0, 0, 0) as never),
      nearest: subject.input(INT4.nearest),
    },
  });
  // 9.5 -> 7, error 2.5; 1.25 + 2.5 -> 4, error -2.75; 0.25 + 1.25 - 5.5 = -4 -> -4.
  assert.deepEqual([...codes], [-4, 4, 7]);
  assert.deepEqual([...weights], [4.25, -2.75, 2.5]);
});

testEachDevice(
  "ldlqLevels() rounds as quantizeLevels() where nothing is fed back",
  async (linalg, s) => {
    const scheme = groupedLevels({ bits: 4, groupCols: 16 }), tables = levelTables(scheme, take);
    const rows = 5, width = 32, next = uniform(1), draw = normal(2);
    const w = Float32Array.from({ length: rows * width }, () => 40 * draw());
    const scales = Float32Array.of(1, 0.5, 2, 1, 3);
    const choices = Uint8Array.from({ length: 2 * rows }, () => 1 + Math.floor(120 * next()));
    const codes = s.output(new Int8Array(), w.length), identity = new Float32Array(width * width);
    for (let j = 0; j < width; j++) identity[j * (width + 1)] = 1;
    await linalg.ldlqLevels({
      codes,
      codesRowStride: width,
      weights: matrix(s.inOut(w), rows, width),
      feedback: matrix(s.inOut(new Float32Array(rows * width)), rows, width),
      panel: matrix(s.input(identity), width, width),
      scales: s.input(scales),
      scaleCols: 1,
      groupRows: 1,
      firstRow: 0,
      columnGroups: s.input(new Int32Array(width) as never),
      levels: {
        choices: s.input(choices),
        across: 2,
        columnSets: s.input(Int32Array.from({ length: width }, (_, j) => j >> 4) as never),
        nearest: s.input(tables.nearest),
      },
    });
    const want = new Int8Array(w.length);
    const grid = { rows, cols: width, groupRows: 1, groupCols: width };
    referenceKernels.quantizeLevels(want, w, scales, grid, { ...tables, choices });
    assert.deepEqual([...codes], [...want]);
  },
);

Deno.test("ldlqLevels() gives the same on every device", async () => {
  const scheme = groupedLevels({ bits: 6, groupCols: 16 }), tables = levelTables(scheme, take);
  for (
    const [rows, width, flavor] of [
      ...[[7, 21, "plain"], [1, 1, "nasty"], [9, 40, "nasty"]],
      ...[[37, 128, "plain"], [16, 100, "plain"], [5, 127, "plain"]],
    ] as const
  ) {
    const stride = Math.ceil(width / 4) * 4;
    const given = await asKept(values(width, rows * width, flavor));
    await assertSameOnAllDevices(`${rows} x ${width}, ${flavor}`, async (linalg, s) => {
      const next = uniform(rows), codes = s.output(new Int8Array(), rows * width);
      const weights = s.inOut(given);
      const panel = values(3, width * stride, "plain").map((value) => 0.1 * value);
      for (let j = 0; j < width; j++) {
        panel.fill(0, j * stride + j, (j + 1) * stride);
        panel[j * stride + j] = 1;
      }
      await linalg.ldlqLevels({
        codes,
        codesRowStride: width,
        weights: matrix(weights, rows, width),
        feedback: matrix(s.inOut(values(5, rows * stride, "plain")), rows, width, stride),
        panel: matrix(s.input(panel), width, width, stride),
        scales: s.input(Float32Array.from({ length: 2 * (rows + 3) }, () => 0.1 + next())),
        scaleCols: 2,
        groupRows: 1,
        firstRow: 3,
        columnGroups: s.input(Int32Array.from({ length: width }, (_, j) => j % 2) as never),
        levels: {
          choices: s.input(Uint8Array.from({ length: 3 * (rows + 3) }, (_, i) => 40 + i % 80)),
          across: 3,
          columnSets: s.input(Int32Array.from({ length: width }, (_, j) => j % 3) as never),
          nearest: s.input(tables.nearest),
        },
      });
      return [codes, weights];
    });
  }
});
