/** The compiled linear algebra module, and what it exports. */

import linalgBase64 from "./linalg.wasm.b64" with { type: "text" };
import { compileModule } from "./compile_module.ts";

/** Addresses, sizes and strides of a block of columns: `asm/linalg/ldlq_block.ts`. */
type LdlqBlockArgs = [
  codes: number,
  x: number,
  feedback: number,
  panel: number,
  scales: number,
  columnGroups: number,
  rows: number,
  width: number,
  codesRow: number,
  xRow: number,
  feedbackRow: number,
  panelRow: number,
  firstRow: number,
  groupRows: number,
  scaleCols: number,
];

/** The same and the sets of levels: `asm/linalg/ldlq_levels.ts`. */
type LdlqLevelsArgs = [
  ...LdlqBlockArgs,
  choices: number,
  across: number,
  columnSets: number,
  nearest: number,
];

/** The exports of `asm/linalg/index.ts`. Addresses are bytes, sizes and strides elements. */
export interface LinalgExports {
  choleskyBlock(a: number, n: number, aRow: number, minPivot: number): number;
  descendRows(
    codes: number,
    errors: number,
    gradient: number,
    sums: number,
    totals: number,
    panel: number,
    factors: number,
    weights: number,
    scales: number,
    columnGroups: number,
    rows: number,
    cols: number,
    width: number,
    rank: number,
    codesRow: number,
    errorsRow: number,
    gradientRow: number,
    sumsRow: number,
    panelRow: number,
    factorsRow: number,
    offset: number,
    firstRow: number,
    groupRows: number,
    scaleCols: number,
    penalty: number,
  ): void;
  feedBack: FeedBackExport;
  feedBackI8: FeedBackExport;
  packErrors: PackExport;
  packErrorsI8: PackExport;
  packFactor: PackExport;
  packFactorI8: PackExport;
  gemmF32: GemmExport;
  gemmF32F64: GemmExport;
  gemmF32ToF64: GemmExport;
  gemmF64: GemmExport;
  gemmF64ByF32: GemmExport;
  gemmI8(
    out: number,
    a: number,
    b: number,
    m: number,
    n: number,
    k: number,
    workspace: number,
  ): void;
  gemmWorkspaceBytes(): number;
  gramI16(
    h: number,
    x: number,
    scales: number,
    cols: number,
    terms: number,
    first: number,
    end: number,
    hRow: number,
    factor: number,
    add: number,
    workspace: number,
  ): void;
  ldlqBlock(...args: LdlqBlockArgs): void;
  ldlqChosenLevels(
    ...args: [
      ...LdlqLevelsArgs,
      first: number,
      lastSet: number,
      setCols: number,
      spare: number,
    ]
  ): void;
  ldlqLevels(...args: LdlqLevelsArgs): void;
  addLowRank(
    x: number,
    b: number,
    a: number,
    rows: number,
    cols: number,
    rank: number,
    workspace: number,
  ): void;
  addRotatedDiagonal(h: number, row: number, size: number, hRow: number): void;
  copyRowsF64(
    to: number,
    from: number,
    rows: number,
    cols: number,
    toRow: number,
    fromRow: number,
  ): void;
  gatherColumnsF32: ReorderExport;
  gatherColumnsI8: ReorderExport;
  scatterColumnsF32: ReorderExport;
  scatterColumnsI8: ReorderExport;
  permuteColumns(
    h: number,
    order: number,
    spare: number,
    rows: number,
    n: number,
    hRow: number,
  ): void;
  permuteRows(h: number, order: number, spare: number, n: number, hRow: number): void;
  scaleSums(
    out: number,
    sums: number,
    rowScales: number,
    colScales: number,
    rows: number,
    cols: number,
    add: number,
  ): void;
  hadamardColumnsF32(x: number, rows: number, cols: number, xRow: number, norm: number): void;
  hadamardColumnsF64(x: number, rows: number, cols: number, xRow: number, norm: number): void;
  hadamardRowsF32(x: number, rows: number, cols: number, xRow: number, norm: number): void;
  hadamardRowsF64(x: number, rows: number, cols: number, xRow: number, norm: number): void;
  rotateColumnsF64(x: number, rows: number, cols: number, xRow: number, groupSize: number): void;
  rotateRowsF64(x: number, rows: number, cols: number, xRow: number, groupSize: number): void;
  solveBlock(x: number, l: number, rows: number, n: number, xRow: number, lRow: number): void;
  unitLowerPanel: DivideExport;
  divideColumns: DivideExport;
  /** `weights`: 0 if there are none. */
  weighSquares(
    out: number,
    x: number,
    weights: number,
    rows: number,
    cols: number,
    xRow: number,
  ): void;
}

/** `add`: 0 to replace c, 1 to add to it. */
export type FeedBackExport = (
  c: number,
  e: number,
  eScales: number,
  l: number,
  lScales: number,
  rows: number,
  cols: number,
  terms: number,
  cRow: number,
  add: number,
) => void;

type DivideExport = (
  out: number,
  l: number,
  diagonal: number,
  rows: number,
  cols: number,
  outRow: number,
  lRow: number,
) => void;

type PackExport = (
  out: number,
  scales: number,
  x: number,
  rows: number,
  cols: number,
  xRow: number,
) => void;

/** Rows whose columns go in another order. */
export type ReorderExport = (
  out: number,
  x: number,
  order: number,
  rows: number,
  cols: number,
  outRow: number,
  xRow: number,
) => void;

/** `mode`: 0 set, 1 add, 2 subtract. */
export type GemmExport = (
  c: number,
  a: number,
  b: number,
  m: number,
  n: number,
  k: number,
  cRow: number,
  aRow: number,
  aCol: number,
  bRow: number,
  bCol: number,
  mode: number,
  workspace: number,
) => void;

/** Returns the compiled module. Compile once per process and post it to the workers, which share its code. */
export function compileLinalg(): WebAssembly.Module {
  return compileModule(linalgBase64);
}
