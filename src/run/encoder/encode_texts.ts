/**
 * Runs texts through a text encoder, block by block, by all workers together, and writes what its linear
 * layers take in.
 *
 * Data: the hidden states of all tokens stay in shared memory. Block after block, the texts go through in
 * bands of 512 tokens: norms, products, attention and activations of a band in shared buffers, each worker
 * its part of the rows, the outputs or the heads, with barriers in between. Weights are read from the file in
 * pieces of 2^20 elements and decoded where they are used, once per band. Inputs of the layers are written as
 * they come: where each row goes was planned from the lengths of the texts.
 *
 * Memory: 4 T D bytes for T tokens of width D; of a band 4 x 512 x (D + the larger of 2 queries + 2 keys and
 * twice the inner width); 6 to 8 MB for each worker. Nothing depends on the number of blocks.
 *
 * Cost: 2 T operations for each weight, and decoding each weight T / 512 times, some 2 % of that.
 *
 * Values are f32 throughout, sums of norms and channels f64. The same bits for any number of workers.
 */

import { shareOf } from "../../linalg/team.ts";
import {
  type EncoderBlock,
  linearGroups,
  type LinearStep,
  type MlpStep,
  type NormsAround,
  type NormStep,
} from "../../presets/encoders/encoder_graph.ts";
import type { ChunkContext, TeamContext } from "../chunks/chunk_context.ts";
import type { EncodeTask } from "../tasks.ts";
import { ACTIVATIONS } from "./activations.ts";
import { attend, placeHeads, positionsIn } from "./attention.ts";
import { type BandInputs, recordInputs, writeSums } from "./input_record.ts";
import { applyLinear, loadNorm, loadRows } from "./linear_layer.ts";
import { normRow } from "./norms.ts";
import { fillRotary } from "./positions.ts";
import {
  type EncoderSizes,
  encoderSizes,
  roomForAttention,
  roomForMlp,
  roomForTexts,
  rotaryKey,
  type RunRoom,
} from "./room.ts";
import type { TextBand } from "./text_bands.ts";

/** Runs all texts of `task`. Every worker of the run calls it, for the same task. */
export function encodeTexts(team: TeamContext, task: EncodeTask): void {
  const sizes = encoderSizes(task), run = roomForTexts(team.shared, task, sizes);
  const context = team.contextOf(0), work: Work = { team, context, task, sizes, run };
  begin(work);
  for (const block of task.graph.blocks) {
    for (const band of sizes.bands) {
      const step = nextStep(team);
      if (step === null) return;
      attentionOf(work, block, band);
      mlpOf(work, block, band);
      if (team.linalg.team.index === 0) team.chunkDone(step);
    }
    writeBlock(work, block);
  }
}

/** What all functions here need. */
interface Work {
  readonly team: TeamContext;
  readonly context: ChunkContext;
  readonly task: EncodeTask;
  readonly sizes: EncoderSizes;
  readonly run: RunRoom;
}

/** The chunk of the next band, taken by the first member for all; null, to all: the run stops. */
function nextStep({ linalg, nextChunk, contextOf }: TeamContext): ChunkContext | null {
  const chunk = linalg.team.index === 0 ? nextChunk() : null;
  const index = linalg.team.max(chunk?.index ?? -1);
  return index < 0 ? null : chunk?.context ?? contextOf(index);
}

/** Clears sums, fills tables, and makes the first hidden states. Ends in a barrier. */
function begin(work: Work): void {
  const { team, task: { graph }, sizes, run } = work, { team: members } = team.linalg;
  if (members.index === 0) {
    for (const { max, sum } of run.sums) {
      max.fill(0);
      sum.fill(0);
    }
  }
  const own = shareOf(members, 0, sizes.longest);
  for (const { attention: { rope, headSize } } of graph.blocks) {
    if (rope === null) continue;
    const part = { headSize, from: own.start, to: own.end };
    fillRotary(run.rotary.get(rotaryKey(rope))!, rope, part);
  }
  embed(work);
  members.barrier();
}

/** This member's tokens become vectors. */
function embed({ team, context, task, sizes, run: { hidden } }: Work): void {
  const { graph: { embedding, width }, tensors, tokens } = task, { scratch } = context;
  const mark = scratch.mark();
  const row = scratch.f32(width), type = scratch.f32(width);
  const norm = embedding.norm === null ? null : loadNorm(context, tensors, embedding.norm);
  const load = (name: string, index: number, into: Float32Array) =>
    loadRows(context, into, tensors[name]!, { row: index, rows: 1 });
  if (embedding.types !== null) load(embedding.types, 0, type);
  const positions = sizes.bands.flatMap((band) => [...positionsIn(band)]);
  const own = shareOf(team.linalg.team, 0, tokens.length);
  for (let t = own.start; t < own.end; t++) {
    const x = hidden.subarray(t * width, (t + 1) * width);
    load(embedding.tokens, tokens[t]!, x);
    for (let k = 0; k < width; k++) x[k] = x[k]! * embedding.scale;
    if (embedding.positions !== null) {
      load(embedding.positions, positions[t]!, row);
      for (let k = 0; k < width; k++) x[k] = x[k]! + row[k]!;
    }
    if (embedding.types !== null) { for (let k = 0; k < width; k++) x[k] = x[k]! + type[k]!; }
    if (norm !== null) normRow(x, x, norm);
  }
  scratch.release(mark);
}

/** Adds attention to the hidden states of a band. Ends in a barrier. */
function attentionOf(work: Work, block: EncoderBlock, band: TextBand): void {
  const { team, context, task, sizes, run } = work, { attention: step } = block;
  const { barrier } = members(team), mark = team.shared.mark();
  const room = roomForAttention(team.shared, sizes);
  normInto(work, run.x, block.attentionNorms.before, band);
  barrier();
  record(work, block, 0, { inputs: run.x, band });
  const project = (layer: LinearStep, out: Float32Array, inputs: Float32Array) =>
    applyLinear(team, context, task, layer, { out, inputs, tokens: band.tokens });
  project(step.q, room.q, run.x);
  project(step.k, room.k, run.x);
  project(step.v, room.v, run.x);
  barrier();
  placeHeads(team, context, task, { step, band, room, run });
  barrier();
  attend(team, context, task, { step, band, room });
  barrier();
  record(work, block, 1, { inputs: room.mixed, band });
  project(step.o, run.x, room.mixed);
  barrier();
  addInto(work, block.attentionNorms, band);
  barrier();
  team.shared.release(mark);
}

/** Adds the MLP to the hidden states of a band. Ends in a barrier. */
function mlpOf(work: Work, block: EncoderBlock, band: TextBand): void {
  const { team, context, task, sizes, run } = work, { mlp } = block;
  const { barrier } = members(team), mark = team.shared.mark();
  const { gate, up } = roomForMlp(team.shared, sizes);
  normInto(work, run.x, block.mlpNorms.before, band);
  barrier();
  record(work, block, 2, { inputs: run.x, band });
  const project = (layer: LinearStep, out: Float32Array, inputs: Float32Array) =>
    applyLinear(team, context, task, layer, { out, inputs, tokens: band.tokens });
  if (mlp.gate !== null) project(mlp.gate, gate, run.x);
  project(mlp.up, up, run.x);
  barrier();
  activate(team, mlp, { gate, up, count: band.tokens * task.tensors[mlp.up.weight]!.rows });
  barrier();
  record(work, block, 3, { inputs: up, band });
  project(mlp.down, run.x, up);
  barrier();
  addInto(work, block.mlpNorms, band);
  barrier();
  team.shared.release(mark);
}

function members({ linalg: { team } }: TeamContext) {
  return { barrier: () => team.barrier() };
}

/** up = act(gate) * up, or act(up): this member's values. */
function activate(
  { linalg }: TeamContext,
  mlp: MlpStep,
  { gate, up, count }: { gate: Float32Array; up: Float32Array; count: number },
): void {
  const act = ACTIVATIONS[mlp.activation], own = shareOf(linalg.team, 0, count, 16);
  if (mlp.gate === null) {
    for (let i = own.start; i < own.end; i++) up[i] = act(up[i]!);
  } else {
    for (let i = own.start; i < own.end; i++) up[i] = act(gate[i]!) * up[i]!;
  }
}

/** out = norm(hidden), this member's tokens of a band; without a norm the hidden states as they are. */
function normInto(
  { team, context, task, run: { hidden } }: Work,
  out: Float32Array,
  step: NormStep | null,
  band: TextBand,
): void {
  const { width } = task.graph, { scratch } = context, mark = scratch.mark();
  const norm = step === null ? null : loadNorm(context, task.tensors, step);
  const own = shareOf(team.linalg.team, 0, band.tokens);
  for (let t = own.start; t < own.end; t++) {
    const x = hidden.subarray((band.start + t) * width, (band.start + t + 1) * width);
    const to = out.subarray(t * width, (t + 1) * width);
    if (norm === null) to.set(x);
    else normRow(to, x, norm);
  }
  scratch.release(mark);
}

/** hidden = after(hidden + inside(x)), this member's tokens of a band. */
function addInto(
  { team, context, task, run: { hidden, x } }: Work,
  { inside, after }: NormsAround,
  band: TextBand,
): void {
  const { width } = task.graph, { scratch } = context, mark = scratch.mark();
  const load = (step: NormStep | null) =>
    step === null ? null : loadNorm(context, task.tensors, step);
  const insideNorm = load(inside), afterNorm = load(after);
  const own = shareOf(team.linalg.team, 0, band.tokens);
  for (let t = own.start; t < own.end; t++) {
    const change = x.subarray(t * width, (t + 1) * width);
    const to = hidden.subarray((band.start + t) * width, (band.start + t + 1) * width);
    if (insideNorm !== null) normRow(change, change, insideNorm);
    for (let k = 0; k < width; k++) to[k] = to[k]! + change[k]!;
    if (afterNorm !== null) normRow(to, to, afterNorm);
  }
  scratch.release(mark);
}

/** Records the inputs of one group of layers of a block. */
function record(
  { team, context, task, run }: Work,
  block: EncoderBlock,
  group: number,
  { inputs, band }: { inputs: Float32Array; band: TextBand },
): void {
  const of: BandInputs = { ...groupOf(task, block, group), inputs };
  recordInputs(team, context, task, { sums: run.sums[group]!, band, of });
}

function groupOf({ tensors }: EncodeTask, block: EncoderBlock, group: number) {
  const layers = linearGroups(block)[group]!;
  return { layers, cols: tensors[layers[0]!.weight]!.cols };
}

/** Writes what was summed up over all bands. */
function writeBlock({ team, context, task, run }: Work, block: EncoderBlock): void {
  run.sums.forEach((sums, group) => {
    writeSums(team, context, task, { sums, ...groupOf(task, block, group) });
  });
}
