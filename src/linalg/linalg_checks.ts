/** Checks of every backend before a linear algebra kernel runs: sizes that fit together. */

import {
  type BlockSearch,
  BYTE_RUN,
  type ByteMatrix,
  type DescendRows,
  FEED_BACK_TERMS_MAX,
  GEMM_I8_TERMS_MAX,
  GRAM_RUN,
  type GramI16,
  type LdlqBlock,
  type LdlqLevels,
  LEVELS_TRIED,
  type ShortMatrix,
} from "./linalg_kernels.ts";
import { LEVEL_TABLE } from "../backend/backend.ts";
import { extentOf, type Matrix } from "./matrix.ts";

type View = Matrix<ArrayLike<number>>;

function fail(kernel: string, fact: string): never {
  throw new RangeError(`Cannot run ${kernel}: ${fact}`);
}

/** Checks that the elements of `m` lie in its array. */
function checkMatrix(kernel: string, name: string, m: View): void {
  const sizes = [m.rows, m.cols, m.rowStride, m.colStride];
  if (!sizes.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    fail(kernel, `${name} has sizes and strides ${JSON.stringify(sizes)}, needs whole numbers`);
  }
  if (extentOf(m) > m.data.length) {
    fail(kernel, `${name} reaches over ${extentOf(m)} elements, has ${m.data.length}`);
  }
}

/** The same, for a matrix that is written or read by whole rows: they are contiguous and apart. */
function checkRows(kernel: string, name: string, m: View): void {
  checkMatrix(kernel, name, m);
  if (m.colStride !== 1 || (m.rows > 1 && m.rowStride < m.cols)) {
    fail(kernel, `${name} must be row-major, has strides ${m.rowStride} and ${m.colStride}`);
  }
}

function checkShape(kernel: string, name: string, m: View, rows: number, cols: number): void {
  if (m.rows !== rows || m.cols !== cols) {
    fail(kernel, `${name} is ${m.rows} x ${m.cols}, needs ${rows} x ${cols}`);
  }
}

/** Checks C [m, n], A [m, k], B [k, n]. @throws RangeError */
export function checkGemm(kernel: string, c: View, a: View, b: View): void {
  checkRows(kernel, "C", c);
  checkMatrix(kernel, "A", a);
  checkMatrix(kernel, "B", b);
  checkShape(kernel, "A", a, c.rows, a.cols);
  checkShape(kernel, "B", b, a.cols, c.cols);
}

/** Checks the lengths, and that sums cannot overflow. @throws RangeError */
export function checkGemmI8(
  out: Int32Array,
  a: Int8Array,
  b: Int8Array,
  m: number,
  n: number,
  k: number,
): void {
  checkMatrix("gemmI8", "a", { data: a, rows: m, cols: k, rowStride: k, colStride: 1 });
  checkMatrix("gemmI8", "b", { data: b, rows: n, cols: k, rowStride: k, colStride: 1 });
  checkMatrix("gemmI8", "out", { data: out, rows: m, cols: n, rowStride: n, colStride: 1 });
  if (k > GEMM_I8_TERMS_MAX) {
    fail("gemmI8", `${k} terms may overflow, at most ${GEMM_I8_TERMS_MAX} cannot`);
  }
}

/** Checks that `a` is square. @throws RangeError */
export function checkSquare(kernel: string, name: string, a: View): void {
  checkRows(kernel, name, a);
  checkShape(kernel, name, a, a.rows, a.rows);
}

/** Checks x [rows, n] and l [n, n]. @throws RangeError */
export function checkSolveBlock(x: View, l: View): void {
  checkRows("solveBlock", "x", x);
  checkSquare("solveBlock", "l", l);
  checkShape("solveBlock", "l", l, x.cols, x.cols);
}

/** Checks out and l [rows, cols], rows >= cols, diagonal [cols]. @throws RangeError */
export function checkUnitLowerPanel(out: View, l: View, diagonal: Float64Array): void {
  checkRows("unitLowerPanel", "out", out);
  checkRows("unitLowerPanel", "l", l);
  checkShape("unitLowerPanel", "out", out, l.rows, l.cols);
  if (l.rows < l.cols) fail("unitLowerPanel", `l has ${l.rows} rows, needs ${l.cols} or more`);
  if (diagonal.length !== l.cols) {
    fail("unitLowerPanel", `diagonal has ${diagonal.length} elements, needs ${l.cols}`);
  }
}

/** Checks that `out` has room for e [rows, terms]. @throws RangeError */
export function checkPackErrors(out: ShortMatrix, e: View): void {
  checkRows("packErrors", "e", e);
  checkShort("packErrors", "out", out, Math.ceil(e.rows / 4) * 4, e.cols);
}

/** Checks that `out` has room for l [terms, cols]. @throws RangeError */
export function checkPackFactor(out: ShortMatrix, l: View): void {
  checkRows("packFactor", "l", l);
  if (l.cols % 8 !== 0) fail("packFactor", `l has ${l.cols} columns, needs a multiple of 8`);
  checkShort("packFactor", "out", out, l.cols, l.rows);
}

/** Checks c [rows, cols] and that the packed factors are as large. @throws RangeError */
export function checkFeedBack(c: View, e: ShortMatrix, l: ShortMatrix, terms: number): void {
  checkRows("feedBack", "c", c);
  if (c.rows % 4 !== 0 || c.cols % 8 !== 0) {
    fail("feedBack", `c is ${c.rows} x ${c.cols}, needs multiples of 4 and 8`);
  }
  checkShort("feedBack", "e", e, c.rows, terms);
  checkShort("feedBack", "l", l, c.cols, terms);
}

/** Checks that `out` has room for e [rows, terms]. @throws RangeError */
export function checkPackErrorsI8(out: ByteMatrix, e: View): void {
  checkRows("packErrorsI8", "e", e);
  checkBytes("packErrorsI8", "out", out, { lines: Math.ceil(e.rows / 4) * 4, terms: e.cols });
  if (e.cols > BYTE_RUN) fail("packErrorsI8", `${e.cols} terms, at most ${BYTE_RUN} are a run`);
}

/** Checks that `out` has room for l [terms, cols]. @throws RangeError */
export function checkPackFactorI8(out: ByteMatrix, l: View): void {
  checkRows("packFactorI8", "l", l);
  if (l.cols % 8 !== 0) fail("packFactorI8", `l has ${l.cols} columns, needs a multiple of 8`);
  checkBytes("packFactorI8", "out", out, { lines: l.cols, terms: l.rows, starts: 1 });
  if (l.rows > BYTE_RUN) fail("packFactorI8", `${l.rows} terms, at most ${BYTE_RUN} are a run`);
}

/** Checks c [rows, cols] and that the packed factors are as large. @throws RangeError */
export function checkFeedBackI8(c: View, e: ByteMatrix, l: ByteMatrix, terms: number): void {
  checkRows("feedBackI8", "c", c);
  if (c.rows % 4 !== 0 || c.cols % 8 !== 0) {
    fail("feedBackI8", `c is ${c.rows} x ${c.cols}, needs multiples of 4 and 8`);
  }
  checkBytes("feedBackI8", "e", e, { lines: c.rows, terms });
  checkBytes("feedBackI8", "l", l, { lines: c.cols, terms, starts: 1 });
}

/** Checks that `lines` lines of `terms` have room, with `starts` more quads in every run. */
function checkBytes(
  kernel: string,
  name: string,
  { quads, scales }: ByteMatrix,
  { lines, terms, starts = 0 }: { lines: number; terms: number; starts?: number },
): void {
  if (!(Number.isSafeInteger(terms) && terms >= 0)) fail(kernel, `${terms} terms`);
  const runs = Math.max(1, Math.ceil(terms / BYTE_RUN));
  const need = lines * (Math.ceil(terms / 4) + starts * runs);
  if (quads.length < need) fail(kernel, `${name} has ${quads.length} quads, needs ${need}`);
  if (scales.length < lines * runs) {
    fail(kernel, `${name} has ${scales.length} scales, needs ${lines * runs}`);
  }
}

/** Checks h [K, K], and that x has `terms` rows of K channels. @throws RangeError */
export function checkGramI16(
  h: View,
  { pairs, scales }: ShortMatrix,
  { terms, first, end }: GramI16,
): void {
  checkRows("gramI16", "h", h);
  checkShape("gramI16", "h", h, h.rows, h.rows);
  const sizes = [h.rows, first, end];
  if (sizes.some((size) => !(size >= 0 && size % 8 === 0)) || end > h.rows) {
    fail("gramI16", `rows ${first} to ${end} of ${h.rows}, needs multiples of 8`);
  }
  if (!(Number.isSafeInteger(terms) && terms >= 0)) fail("gramI16", `${terms} terms`);
  const needPairs = Math.ceil(terms / 2) * h.cols,
    needScales = Math.ceil(terms / GRAM_RUN) * h.cols;
  if (pairs.length < needPairs || scales.length < needScales) {
    fail(
      "gramI16",
      `x has ${pairs.length} pairs and ${scales.length} scales, needs ${needPairs} and ${needScales}`,
    );
  }
}

function checkShort(
  kernel: string,
  name: string,
  { pairs, scales }: ShortMatrix,
  lines: number,
  terms: number,
): void {
  if (!(terms >= 0 && terms <= FEED_BACK_TERMS_MAX)) {
    fail(kernel, `${terms} terms may overflow, at most ${FEED_BACK_TERMS_MAX} cannot`);
  }
  const need = lines * Math.ceil(terms / 2);
  if (pairs.length < need) fail(kernel, `${name} has ${pairs.length} pairs, needs ${need}`);
  if (scales.length < lines) fail(kernel, `${name} has ${scales.length} scales, needs ${lines}`);
}

/** Checks out and l [rows, cols], diagonal [cols]. @throws RangeError */
export function checkDivideColumns(out: View, l: View, diagonal: Float64Array): void {
  const kernel = "divideColumns";
  checkRows(kernel, "out", out);
  checkRows(kernel, "l", l);
  checkShape(kernel, "out", out, l.rows, l.cols);
  if (diagonal.length !== l.cols) {
    fail(kernel, `diagonal has ${diagonal.length} elements, needs ${l.cols}`);
  }
}

/** Checks out [rows], x [rows, cols], weights [cols]. @throws RangeError */
export function checkWeighSquares(
  out: Float64Array,
  x: View,
  weights: Float64Array | null,
): void {
  const kernel = "weighSquares";
  checkRows(kernel, "x", x);
  if (out.length !== x.rows) fail(kernel, `out has ${out.length} elements, needs ${x.rows}`);
  if (weights !== null && weights.length !== x.cols) {
    fail(kernel, `weights has ${weights.length} elements, needs ${x.cols}`);
  }
}

/** Checks everything that `ldlqBlock` reads and writes, the scale of every element too. @throws RangeError */
export function checkLdlqBlock(args: LdlqBlock, name = "ldlqBlock"): void {
  const { codes, codesRowStride, weights, feedback, panel } = args;
  const { rows, cols: width } = weights;
  checkRows(name, "weights", weights);
  checkRows(name, "codes", {
    data: codes,
    rows,
    cols: width,
    rowStride: codesRowStride,
    colStride: 1,
  });
  for (const [what, m] of [["feedback", feedback], ["panel", panel]] as const) {
    checkRows(name, what, m);
    checkShape(name, what, m, what === "panel" ? width : rows, width);
    // Rows are updated in whole vectors.
    const padded = Math.ceil(width / 4) * 4;
    if (m.rowStride % 4 !== 0 || m.rowStride < padded) {
      fail(name, `rows of ${what} must have room for a multiple of 4 values`);
    }
    if (m.rows > 0 && (m.rows - 1) * m.rowStride + padded > m.data.length) {
      fail(name, `${what} has ${m.data.length} elements, its last row needs room for ${padded}`);
    }
  }
  checkScales(name, args, rows, width);
}

/** The same, and that the table of every element is there. @throws RangeError */
export function checkLdlqLevels(args: LdlqLevels): void {
  const name = "ldlqLevels";
  checkLdlqBlock(args, name);
  const { levels: { choices, across, columnSets, nearest }, weights, firstRow } = args;
  const { rows, cols: width } = weights;
  if (columnSets.length !== width) {
    fail(name, `columnSets has ${columnSets.length} elements, needs ${width}`);
  }
  if ((firstRow + rows) * across > choices.length) {
    fail(name, `choices has ${choices.length} elements, needs ${(firstRow + rows) * across}`);
  }
  for (const group of columnSets) {
    if (!(group >= 0 && group < across)) fail(name, `group ${group} is not among the ${across}`);
  }
  if (nearest.length === 0 || nearest.length % LEVEL_TABLE !== 0) {
    fail(name, `nearest has ${nearest.length} elements, no multiple of ${LEVEL_TABLE}`);
  }
  if (args.levels.search) checkLevelSearch(args, args.levels.search);
}

/** Checks that columns are those of whole groups, each under one scale. */
function checkLevelSearch(
  { columnGroups, levels: { columnSets } }: LdlqLevels,
  { groupCols, first, spare }: BlockSearch,
): void {
  const name = "ldlqLevels", width = columnSets.length;
  if (!(groupCols >= 16 && groupCols % 16 === 0) || width % groupCols !== 0) {
    fail(name, `groups of ${groupCols} columns do not make up ${width}`);
  }
  if (first.length !== 256) fail(name, `first has ${first.length} elements, needs 256`);
  if (spare.length < LEVELS_TRIED * groupCols) {
    fail(name, `spare has ${spare.length} elements, needs ${LEVELS_TRIED * groupCols}`);
  }
  for (let j = 0; j < width; j++) {
    const k = j - j % groupCols;
    if (columnSets[j] === columnSets[k] && columnGroups[j] === columnGroups[k]) continue;
    fail(name, `column ${j} is not in the group of column ${k}`);
  }
}

/** Checks that the scale of every element of a tile is there. */
function checkScales(
  name: string,
  args: Pick<LdlqBlock, "scales" | "scaleCols" | "groupRows" | "firstRow" | "columnGroups">,
  rows: number,
  width: number,
): void {
  const { groupRows, firstRow, columnGroups, scales, scaleCols } = args;
  if (
    !Number.isSafeInteger(groupRows) || groupRows < 1 || !Number.isSafeInteger(firstRow) ||
    firstRow < 0
  ) {
    fail(name, `groups of ${groupRows} rows from row ${firstRow} are not whole numbers`);
  }
  if (columnGroups.length !== width) {
    fail(name, `columnGroups has ${columnGroups.length} elements, needs ${width}`);
  }
  if (columnGroups.some((group) => group < 0 || group >= scaleCols)) {
    fail(name, `columnGroups must be within 0 to ${scaleCols - 1}`);
  }
  const need = rows === 0 ? 0 : (Math.floor((firstRow + rows - 1) / groupRows) + 1) * scaleCols;
  if (scales.length < need) fail(name, `scales has ${scales.length} elements, needs ${need}`);
}

/** Checks everything that `descendRows` reads and writes. @throws RangeError */
export function checkDescendRows(args: DescendRows): void {
  const name = "descendRows", { errors, gradient, panel, factors, sums, offset } = args;
  const { rows, cols } = errors, width = gradient.cols, rank = sums.cols;
  for (const [what, m] of Object.entries({ errors, gradient, panel, factors, sums })) {
    checkRows(name, what, m);
  }
  checkRows(name, "codes", {
    data: args.codes,
    rows,
    cols,
    rowStride: args.codesRowStride,
    colStride: 1,
  });
  checkShape(name, "gradient", gradient, rows, width);
  checkShape(name, "panel", panel, cols, width);
  checkShape(name, "factors", factors, rows, rank);
  checkShape(name, "sums", sums, cols, rank);
  if (!Number.isSafeInteger(offset) || offset < 0 || offset + cols > width) {
    fail(name, `columns ${offset} to ${offset + cols} are not within ${width}`);
  }
  if (args.weights.length < rows) {
    fail(name, `weights has ${args.weights.length} elements, needs ${rows}`);
  }
  if (args.totals.length < 3) fail(name, `totals has ${args.totals.length} elements, needs 3`);
  checkScales(name, args, rows, cols);
}

function requirePowerOfFour(kernel: string, size: number): void {
  const isPowerOfFour = Number.isInteger(size) && size > 0 && size < 2 ** 31 &&
    (size & (size - 1)) === 0 && (size & 0x55555555) !== 0;
  if (!isPowerOfFour) fail(kernel, `group size ${size} is not a power of 4`);
}

/** Checks that rows are as many, of one kind, and that all of `order` is among their columns. @throws RangeError */
export function checkColumnOrder(kernel: string, out: View, x: View, order: Int32Array): void {
  checkRows(kernel, "out", out);
  checkRows(kernel, "x", x);
  checkShape(kernel, "x", x, out.rows, out.cols);
  if (Object.getPrototypeOf(out.data) !== Object.getPrototypeOf(x.data)) {
    fail(kernel, "out and x hold numbers of different kinds");
  }
  checkOrder(kernel, order, out.cols);
}

/** Checks that `order` has `count` places within as many. */
function checkOrder(kernel: string, order: Int32Array, count: number): void {
  if (order.length !== count) fail(kernel, `order has ${order.length} elements, needs ${count}`);
  for (const place of order) {
    if (!(place >= 0 && place < count)) fail(kernel, `order has ${place}, needs 0 to ${count - 1}`);
  }
}

/** Checks h [n, n], and that `order` has every index once, as rows are moved along its cycles. @throws RangeError */
export function checkPermute(h: View, order: Int32Array, spare: Float64Array): void {
  const kernel = "permuteSymmetric";
  checkSquare(kernel, "h", h);
  checkOrder(kernel, order, h.rows);
  if (new Set(order).size !== order.length) fail(kernel, "order has an index twice");
  if (spare.length < h.rows) fail(kernel, `spare has ${spare.length} elements, needs ${h.rows}`);
}

/** Checks that both are as large. @throws RangeError */
export function checkCopyRows(to: View, from: View): void {
  checkRows("copyRows", "to", to);
  checkRows("copyRows", "from", from);
  checkShape("copyRows", "from", from, to.rows, to.cols);
}

/** Checks h [n, n] and row [n], n a power of 4. @throws RangeError */
export function checkRotatedDiagonal(h: View, row: Float64Array): void {
  const kernel = "addRotatedDiagonal";
  checkSquare(kernel, "h", h);
  requirePowerOfFour(kernel, h.rows);
  if (row.length !== h.rows) fail(kernel, `row has ${row.length} elements, needs ${h.rows}`);
}

/** Checks that there is a scale for every row and column. @throws RangeError */
export function checkScaleSums(
  out: Float32Array,
  sums: Int32Array,
  { rowScales, colScales }: Record<"rowScales" | "colScales", Float32Array>,
): void {
  const need = rowScales.length * colScales.length;
  for (const [name, { length }] of Object.entries({ out, sums })) {
    if (length !== need) fail("scaleSums", `${name} has ${length} elements, needs ${need}`);
  }
}

/** Checks that `groupSize`, a power of 4, divides `length`. @throws RangeError */
export function checkRotateF64(kernel: string, x: View, groupSize: number, length: number): void {
  checkRows(kernel, "x", x);
  requirePowerOfFour(kernel, groupSize);
  if (length % groupSize !== 0) fail(kernel, `group size ${groupSize} does not divide ${length}`);
}

/** Throws if `length`, that of every line of `x`, is not a power of 2. */
export function checkHadamard(kernel: string, x: View, length: number): void {
  checkRows(kernel, "x", x);
  const isPowerOfTwo = length > 0 && length <= 2 ** 30 && (length & (length - 1)) === 0;
  if (!isPowerOfTwo) fail(kernel, `a length of ${length} is not a power of 2`);
}

/** Throws if arrays do not have the sizes of their shapes. */
export function checkAddLowRank(
  x: Float32Array,
  b: Float32Array,
  a: Float32Array,
  { rows, cols, rank }: { readonly rows: number; readonly cols: number; readonly rank: number },
): void {
  const sizes = [["x", x, rows * cols], ["b", b, rows * rank], ["a", a, rank * cols]] as const;
  for (const [name, array, need] of sizes) {
    if (array.length !== need) {
      fail("addLowRank", `${name} has ${array.length} elements, needs ${need}`);
    }
  }
}
