/** Texts that are run through a text encoder: what that reads and takes. */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { linearGroups, type NormStep } from "../../presets/encoders/encoder_graph.ts";
import type { TaskKind } from "../task_kind.ts";
import type { EncodeTask } from "../tasks.ts";
import { planAttention } from "./attention.ts";
import { encodeTexts } from "./encode_texts.ts";
import { planRecord } from "./input_record.ts";
import { planLinear, planLoadRows, planNorm } from "./linear_layer.ts";
import { encoderSizes, roomForAttention, roomForMlp, roomForTexts } from "./room.ts";

/** Texts are run through a text encoder, and inputs of its layers are written. */
export const ENCODE: TaskKind<EncodeTask> = {
  matrices: ({ tensors }) => Object.values(tensors),
  readsAgain: () => true,
  needsLinalg: () => true,
  grid: (task) => {
    const rows = task.graph.blocks.length * encoderSizes(task).bands.length;
    return { rows, cols: 1, rowStep: 1, colStep: 1, streamed: false };
  },
  planMemory({ own, shared }, task) {
    const sizes = encoderSizes(task);
    roomForTexts(shared, task, sizes);
    shared.within(() => roomForAttention(shared, sizes));
    shared.within(() => roomForMlp(shared, sizes));
    planOwn(own, task);
  },
  runChunk: (_context, { name }) => {
    throw new TypeError(`Cannot do ${name} by one worker`);
  },
  runTogether: encodeTexts,
};

/** Counts what each worker takes: the most of what it does one after the other. */
function planOwn(own: CountedMemory, task: EncodeTask): void {
  const { graph: { embedding, width, blocks }, tensors } = task, sizes = encoderSizes(task);
  own.within(() => {
    own.f32(width);
    own.f32(width);
    if (embedding.norm !== null) planNorm(own, tensors, embedding.norm);
    for (const name of [embedding.tokens, embedding.positions, embedding.types]) {
      if (name !== null) planLoadRows(own, tensors[name]!, 1);
    }
  });
  const planNorms = (...norms: readonly (NormStep | null)[]) =>
    own.within(() => {
      for (const norm of norms) if (norm !== null) planNorm(own, tensors, norm);
    });
  for (const block of blocks) {
    const { attention, attentionNorms, mlpNorms } = block;
    for (const { before, inside, after } of [attentionNorms, mlpNorms]) {
      planNorms(before);
      planNorms(inside, after);
    }
    planAttention(own, task, attention, sizes);
    for (const layers of linearGroups(block)) {
      planRecord(own, tensors[layers[0]!.weight]!.cols);
      for (const layer of layers) planLinear(own, tensors, layer);
    }
  }
}
