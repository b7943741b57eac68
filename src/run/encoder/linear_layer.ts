/** Linear layers and other tensors of a text encoder, read and decoded in pieces as they are needed. */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { MatrixSource } from "../../formats/matrix_source.ts";
import { matrix, transpose } from "../../linalg/matrix.ts";
import { shareOf } from "../../linalg/team.ts";
import type { LinearStep, NormStep } from "../../presets/encoders/encoder_graph.ts";
import { CHUNK_ELEMENTS, type Rect } from "../chunk_grid.ts";
import type { ChunkContext, TeamContext } from "../chunks/chunk_context.ts";
import { decodeRect, planDecode, rawBytes, readRect, roomForRect } from "../chunks/load_rect.ts";
import type { EncodeTask } from "../tasks.ts";
import type { NormValues } from "./norms.ts";

/** Rows of a weight that are decoded at a time. */
function pieceRows({ rows, cols }: MatrixSource): number {
  return Math.max(1, Math.min(rows, Math.floor(CHUNK_ELEMENTS / cols)));
}

/** Reads rows of a tensor as f32. */
export function loadRows(
  context: ChunkContext,
  out: Float32Array,
  source: MatrixSource,
  { row, rows }: Pick<Rect, "row" | "rows">,
): void {
  const rect = { row, col: 0, rows, cols: source.cols };
  const mark = context.scratch.mark();
  const raw = context.scratch.u8(rawBytes(source, rect));
  readRect(context, raw, source, rect);
  decodeRect(context, out, raw, source, rect);
  context.scratch.release(mark);
}

/** Counts what {@link loadRows} takes. */
export function planLoadRows(memory: CountedMemory, source: MatrixSource, rows: number): void {
  const rect = { row: 0, col: 0, rows, cols: source.cols };
  memory.within(() => {
    memory.u8(rawBytes(source, rect));
    planDecode(memory, source, rect);
  });
}

/** Takes and reads a norm. */
export function loadNorm(
  context: ChunkContext,
  tensors: EncodeTask["tensors"],
  { kind, eps, addsOne, weight: name, bias: biasName }: NormStep,
): NormValues {
  const load = (name: string) => {
    const source = tensors[name]!, values = context.scratch.f32(source.rows * source.cols);
    loadRows(context, values, source, { row: 0, rows: source.rows });
    return values;
  };
  const weight = load(name);
  if (addsOne) weight.forEach((value, k) => weight[k] = value + 1);
  return { kind, eps, weight, bias: biasName === null ? null : load(biasName) };
}

/** Counts what {@link loadNorm} takes, and keeps it counted. */
export function planNorm(
  memory: CountedMemory,
  tensors: EncodeTask["tensors"],
  { weight, bias }: NormStep,
): void {
  for (const name of bias === null ? [weight] : [weight, bias]) {
    const { rows, cols } = tensors[name]!;
    memory.f32(rows * cols);
    planLoadRows(memory, tensors[name]!, rows);
  }
}

/** A product: outputs f32 `[tokens, N]` of inputs f32 `[tokens, K]`, both shared. */
export interface Product {
  readonly out: Float32Array;
  readonly inputs: Float32Array;
  readonly tokens: number;
}

/** out = inputs · Wᵀ + bias, this member's columns of it. The caller meets the others. */
export function applyLinear(
  team: TeamContext,
  context: ChunkContext,
  { tensors }: Pick<EncodeTask, "tensors">,
  step: LinearStep,
  { out, inputs, tokens }: Product,
): void {
  const { linalg, scratch } = team, source = tensors[step.weight]!, { rows, cols } = source;
  const own = shareOf(linalg.team, 0, rows, 8), most = pieceRows(source);
  const a = matrix(inputs, tokens, cols);
  for (let row = own.start; row < own.end; row += most) {
    const rect = { row, col: 0, rows: Math.min(most, own.end - row), cols };
    const mark = scratch.mark();
    const { raw, x: weights } = roomForRect(scratch, source, rect);
    readRect(context, raw, source, rect);
    decodeRect(context, weights, raw, source, rect);
    const c = { ...matrix(out.subarray(row), tokens, rect.rows), rowStride: rows };
    linalg.kernels.gemmF32(c, a, transpose(matrix(weights, rect.rows, cols)), "set");
    if (step.bias !== null) addBias(context, tensors[step.bias]!, rect, { out, tokens, rows });
    scratch.release(mark);
  }
}

function addBias(
  context: ChunkContext,
  source: MatrixSource,
  { row, rows: count }: Rect,
  { out, tokens, rows }: { out: Float32Array; tokens: number; rows: number },
): void {
  const bias = context.scratch.f32(rows);
  loadRows(context, bias, source, { row: 0, rows: source.rows });
  for (let t = 0; t < tokens; t++) {
    const at = t * rows + row;
    for (let n = 0; n < count; n++) out[at + n] = out[at + n]! + bias[row + n]!;
  }
}

/** Counts what {@link applyLinear} takes of a worker's own memory. */
export function planLinear(
  memory: CountedMemory,
  tensors: EncodeTask["tensors"],
  { weight, bias }: LinearStep,
): void {
  const source = tensors[weight]!;
  const rect = { row: 0, col: 0, rows: pieceRows(source), cols: source.cols };
  memory.within(() => {
    roomForRect(memory, source, rect);
    memory.within(() => planDecode(memory, source, rect));
    if (bias === null) return;
    memory.f32(source.rows);
    planLoadRows(memory, tensors[bias]!, tensors[bias]!.rows);
  });
}
