/** Attention of each text by itself: this member's heads, with products by the kernels. */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { matrix, type MatrixF32, transpose } from "../../linalg/matrix.ts";
import { shareOf } from "../../linalg/team.ts";
import type { AttentionStep } from "../../presets/encoders/encoder_graph.ts";
import type { ChunkContext, TeamContext } from "../chunks/chunk_context.ts";
import type { EncodeTask } from "../tasks.ts";
import { loadNorm, loadRows, planLoadRows, planNorm } from "./linear_layer.ts";
import { normRow } from "./norms.ts";
import { relativeBucket, rotateHead } from "./positions.ts";
import { type EncoderSizes, rotaryKey, type RunRoom } from "./room.ts";
import type { TextBand, TextPlace } from "./text_bands.ts";

/** Queries, keys and values of a band, and what attention makes of them; all shared. */
export interface AttentionRoom {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly mixed: Float32Array;
}

/** Norms heads and turns them by their positions, this member's tokens. The caller meets the others. */
export function placeHeads(
  team: TeamContext,
  context: ChunkContext,
  task: EncodeTask,
  { step, band, room, run }: {
    readonly step: AttentionStep;
    readonly band: TextBand;
    readonly room: AttentionRoom;
    readonly run: RunRoom;
  },
): void {
  const { heads, keyHeads, headSize, rope } = step;
  const table = rope === null ? null : run.rotary.get(rotaryKey(rope))!;
  const positions = positionsIn(band), own = shareOf(team.linalg.team, 0, band.tokens);
  const parts = [[room.q, heads, step.qNorm], [room.k, keyHeads, step.kNorm]] as const;
  for (const [values, count, normStep] of parts) {
    if (normStep === null && table === null) continue;
    const mark = context.scratch.mark();
    const norm = normStep === null ? null : loadNorm(context, task.tensors, normStep);
    for (let t = own.start; t < own.end; t++) {
      for (let h = 0; h < count; h++) {
        const at = (t * count + h) * headSize, head = values.subarray(at, at + headSize);
        if (norm !== null) normRow(head, head, norm);
        if (table !== null) rotateHead(head, table, positions[t]!);
      }
    }
    context.scratch.release(mark);
  }
}

/** The place of every token of a band in its text. */
export function positionsIn({ texts, tokens }: TextBand): Int32Array {
  const positions = new Int32Array(tokens);
  let t = 0;
  for (const { length } of texts) for (let i = 0; i < length; i++) positions[t++] = i;
  return positions;
}

/** Fills `mixed` with what this member's heads read. The caller meets the others. */
export function attend(
  team: TeamContext,
  context: ChunkContext,
  task: EncodeTask,
  { step, band, room }: {
    readonly step: AttentionStep;
    readonly band: TextBand;
    readonly room: AttentionRoom;
  },
): void {
  const { index, size } = team.linalg.team, mark = context.scratch.mark();
  const bias = step.relativeBias === null ? null : loadBias(context, task, step.relativeBias);
  band.texts.forEach((text, i) => {
    for (let head = 0; head < step.heads; head++) {
      if ((i * step.heads + head) % size !== index) continue;
      attendHead(team, context, { step, room, head, bias, text, first: text.start - band.start });
    }
  });
  context.scratch.release(mark);
}

/** The table `[buckets, heads]` of relative positions. */
function loadBias(context: ChunkContext, { tensors }: EncodeTask, name: string): Float32Array {
  const source = tensors[name]!, values = context.scratch.f32(source.rows * source.cols);
  loadRows(context, values, source, { row: 0, rows: source.rows });
  return values;
}

interface HeadWork {
  readonly step: AttentionStep;
  readonly room: AttentionRoom;
  readonly head: number;
  readonly bias: Float32Array | null;
  readonly text: TextPlace;
  /** Of its tokens in the band. */
  readonly first: number;
}

function attendHead(
  { linalg }: TeamContext,
  { scratch }: ChunkContext,
  { step, room, head, bias, text: { length }, first }: HeadWork,
): void {
  const { heads, keyHeads, headSize } = step;
  const part = (values: Float32Array, count: number, of: number): MatrixF32 =>
    matrix(values.subarray((first * count + of) * headSize), length, headSize, count * headSize);
  const keyHead = Math.floor(head / (heads / keyHeads));
  const mark = scratch.mark(), scores = scratch.f32(length * length);
  const products = matrix(scores, length, length);
  const k = part(room.k, keyHeads, keyHead), v = part(room.v, keyHeads, keyHead);
  linalg.kernels.gemmF32(products, part(room.q, heads, head), transpose(k), "set");
  for (let i = 0; i < length; i++) {
    softmaxRow(scores.subarray(i * length, (i + 1) * length), i, { step, head, bias });
  }
  linalg.kernels.gemmF32(part(room.mixed, heads, head), products, v, "set");
  scratch.release(mark);
}

/** Scores of query `i` become weights; what it does not see gets 0. */
function softmaxRow(
  scores: Float32Array,
  i: number,
  { step, head, bias }: Pick<HeadWork, "step" | "head" | "bias">,
): void {
  const { isCausal, window, scale, heads } = step;
  const from = window === null ? 0 : Math.max(0, i - window + 1);
  const to = isCausal ? i + 1 : scores.length;
  let most = -Infinity, total = 0;
  for (let j = from; j < to; j++) {
    const added = bias === null ? 0 : bias[relativeBucket(j - i) * heads + head]!;
    const score = scores[j] = scores[j]! * scale + added;
    if (score > most) most = score;
  }
  for (let j = from; j < to; j++) total += scores[j] = Math.exp(scores[j]! - most);
  for (let j = from; j < to; j++) scores[j] = scores[j]! / total;
  scores.fill(0, 0, from);
  scores.fill(0, to);
}

/** Counts what {@link placeHeads} and {@link attend} take of a worker's own memory. */
export function planAttention(
  memory: CountedMemory,
  { tensors }: EncodeTask,
  step: AttentionStep,
  { longest }: EncoderSizes,
): void {
  for (const norm of [step.qNorm, step.kNorm]) {
    if (norm !== null) memory.within(() => planNorm(memory, tensors, norm));
  }
  memory.within(() => {
    if (step.relativeBias !== null) {
      const source = tensors[step.relativeBias]!;
      memory.f32(source.rows * source.cols);
      planLoadRows(memory, source, source.rows);
    }
    memory.f32(longest * longest);
  });
}
