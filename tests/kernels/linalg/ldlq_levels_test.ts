import assert from "node:assert/strict";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import type { BlockSearch } from "../../../src/linalg/linalg_kernels.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import { groupedLevels, levelTables } from "../../../src/quant/level_grid.ts";
import { asKept } from "../subnormals.ts";
import type { Subject } from "../subject.ts";
import { normal, uniform, values } from "../values.ts";
import { assertSameOnAllDevices, testEachDevice } from "./linalg_subject.ts";

const take = (count: number) => new Uint8Array(count);
const INT4 = levelTables({ kind: "int4", bits: 4 }, take);

/** One scale for each row, the first ones of a file. */
function rowScales(s: Pick<Subject, "input">, scales: Float32Array, width: number) {
  return {
    scales: s.input(scales),
    scaleCols: 1,
    groupRows: 1,
    firstRow: 0,
    columnGroups: s.input(new Int32Array(width) as never),
  };
}

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
  "ldlqLevels() rounds as quantizeLevels() if nothing is fed back",
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
      ...rowScales(s, scales, width),
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

/** Rows of `groups` groups of `groupCols` columns, in sets that are chosen on the way. */
function chosen(
  { bits, rows, groups, groupCols }: {
    readonly bits: 4 | 6;
    readonly rows: number;
    readonly groups: number;
    readonly groupCols: number;
  },
  { flavor, isFed = true }: { readonly flavor: "plain" | "nasty"; readonly isFed?: boolean },
) {
  const scheme = groupedLevels({ bits, groupCols }), tables = levelTables(scheme, take);
  const width = groups * groupCols, draw = normal(bits + rows);
  const panel = Float32Array.from({ length: width * width }, () => isFed ? 0.1 * draw() : 0);
  for (let j = 0; j < width; j++) {
    panel.fill(0, j * width + j, (j + 1) * width);
    panel[j * width + j] = 1;
  }
  const plain = Float32Array.from({ length: rows * width }, () => 30 * draw());
  const w = flavor === "plain" ? plain : values(width, rows * width, "nasty");
  return { tables, width, panel, w, scales: Float32Array.from({ length: rows }, (_, r) => 1 + r) };
}

for (const groupCols of [16, 32, 64, 128]) {
  Deno.test(`ldlqLevels() chooses sets of ${groupCols} columns on every device`, async () => {
    for (
      const [bits, rows, groups, flavor] of [
        [4, 5, Math.min(2, 128 / groupCols), "plain"],
        [6, 5, Math.min(2, 128 / groupCols), "plain"],
        [4, 3, 1, "nasty"],
        [6, 9, Math.min(2, 128 / groupCols), "nasty"],
        [4, 37, 128 / groupCols, "plain"],
      ] as const
    ) {
      const { tables, width, panel, w, scales } = chosen(
        { bits, rows, groups, groupCols },
        { flavor },
      );
      const given = await asKept(w);
      await assertSameOnAllDevices(
        `${bits} bits, ${rows} x ${width}, ${flavor}`,
        async (linalg, s) => {
          const codes = s.output(new Int8Array(), rows * width), weights = s.inOut(given);
          const choices = s.inOut(new Uint8Array(rows * groups));
          await linalg.ldlqLevels({
            codes,
            codesRowStride: width,
            weights: matrix(weights, rows, width),
            feedback: matrix(
              s.inOut(values(5, rows * width, "plain").map((x) => 3 * x)),
              rows,
              width,
            ),
            panel: matrix(s.input(panel), width, width),
            ...rowScales(s, scales, width),
            levels: {
              choices,
              across: groups,
              // The last group of the file is the first one here.
              columnSets: s.input(
                Int32Array.from(
                  { length: width },
                  (_, j) => groups - 1 - Math.floor(j / groupCols),
                ) as never,
              ),
              nearest: s.input(tables.nearest),
              search: {
                groupCols,
                first: s.input(tables.first),
                spare: s.output(new Float32Array(), 8 * groupCols),
              },
            },
          });
          return [codes, weights, choices];
        },
      );
    }
  });
}

Deno.test("ldlqLevels() takes the set whose rounding, fed back within the group, errs least", () => {
  const groupCols = 16, rows = 40;
  const { tables, width, panel, w, scales } = chosen(
    { bits: 4, rows, groups: 1, groupCols },
    { flavor: "plain" },
  );
  /** Rounds with given sets; returns the squared error of each row in what was rounded, and the sets. */
  const round = (sets: Uint8Array, isSearched: boolean) => {
    const weights = w.slice(),
      codes = new Int8Array(w.length),
      feedback = new Float32Array(w.length);
    referenceLinalg.ldlqLevels({
      codes,
      codesRowStride: width,
      weights: matrix(weights, rows, width),
      feedback: matrix(feedback, rows, width),
      panel: matrix(panel, width, width),
      scales,
      scaleCols: 1,
      groupRows: 1,
      firstRow: 0,
      columnGroups: new Int32Array(width),
      levels: {
        choices: sets,
        across: 1,
        columnSets: new Int32Array(width),
        nearest: tables.nearest,
        search: isSearched
          ? { groupCols, first: tables.first, spare: new Float32Array(8 * groupCols) }
          : null,
      },
    });
    const errors = Float64Array.from({ length: rows }, (_, r) => {
      let sum = 0;
      for (let j = 0; j < width; j++) {
        let target = w[r * width + j]!;
        for (let k = j + 1; k < width; k++) {
          target += weights[r * width + k]! * panel[k * width + j]!;
        }
        sum += (target / scales[r]! - codes[r * width + j]!) ** 2;
      }
      return sum;
    });
    return { errors, sets };
  };
  const found = round(new Uint8Array(rows), true);
  const least = new Float64Array(rows).fill(Infinity);
  for (let set = 1; set < 127; set++) {
    const { errors } = round(new Uint8Array(rows).fill(set), false);
    errors.forEach((error, r) => least[r] = Math.min(least[r]!, error));
  }
  const sum = (x: Float64Array) => x.reduce((total, value) => total + value, 0);
  // Eight sets are tried, of 126; values are looked up in 1/32 of a scale.
  const ratio = sum(found.errors) / sum(least);
  assert(ratio < 1.005, `${ratio}`);
  const plain = new Uint8Array(rows);
  const grid = { rows, cols: width, groupRows: 1, groupCols: width };
  referenceKernels.searchLevels(plain, w, scales, grid, tables);
  const before = sum(found.errors) / sum(round(plain, false).errors);
  assert(before < 0.998, `${before}`);
});

Deno.test("ldlqLevels() refuses groups that are torn, and a search without room", () => {
  const { tables, width, panel, w, scales } = chosen(
    { bits: 4, rows: 1, groups: 2, groupCols: 16 },
    { flavor: "plain" },
  );
  const run = (more: Partial<BlockSearch>, columnSets = new Int32Array(width)) =>
    referenceLinalg.ldlqLevels({
      codes: new Int8Array(width),
      codesRowStride: width,
      weights: matrix(w.slice(), 1, width),
      feedback: matrix(new Float32Array(width), 1, width),
      panel: matrix(panel, width, width),
      scales,
      scaleCols: 1,
      groupRows: 1,
      firstRow: 0,
      columnGroups: new Int32Array(width),
      levels: {
        choices: new Uint8Array(2),
        across: 2,
        columnSets,
        nearest: tables.nearest,
        search: { groupCols: 16, first: tables.first, spare: new Float32Array(128), ...more },
      },
    });
  const torn = Int32Array.from({ length: width }, (_, j) => j % 2);
  assert.throws(() => run({}, torn), /column 1 is not in the group of column 0/);
  assert.throws(() => run({ groupCols: 48 }), /groups of 48 columns do not make up 32/);
  assert.throws(() => run({ spare: new Float32Array(127) }), /spare has 127 elements, needs 128/);
  assert.throws(() => run({ first: new Uint8Array(255) }), /first has 255 elements/);
});
