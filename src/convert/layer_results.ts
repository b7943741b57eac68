/** Results of layers as their tasks end: those of the experts of a bank become one. */

import { foldNumbers, layerErrors } from "../run/layer_statistics.ts";
import type { CompensatedRows } from "../run/layer_notes.ts";
import type { CompensatedNote, Note } from "../run/note.ts";
import type { Task } from "../run/tasks.ts";
import type { LayerResult } from "./layer_result.ts";

/** The layers of a run by the name of their weight. */
export class LayerResults {
  readonly #whole = new Map<string, LayerResult>();
  /** Results of the experts of banks that are not complete, by task. */
  readonly #parts = new Map<string, Map<number, LayerResult>>();
  readonly #expected = new Map<string, number>();

  constructor(tasks: readonly Task[]) {
    for (const { kind, name } of tasks) {
      if (kind === "quantize") this.#expected.set(name, (this.#expected.get(name) ?? 0) + 1);
    }
  }

  /** Takes the result of a task; returns that of its layer once all of its tasks are done, else null. */
  add(task: number, result: LayerResult): LayerResult | null {
    const { name } = result, count = this.#expected.get(name) ?? 1;
    const parts = this.#parts.get(name) ?? new Map<number, LayerResult>();
    this.#parts.set(name, parts.set(task, result));
    if (parts.size < count) return null;
    this.#parts.delete(name);
    const inOrder = [...parts].sort(([a], [b]) => a - b).map(([, part]) => part);
    const whole = count === 1 ? result : mergeExperts(inOrder);
    this.#whole.set(name, whole);
    return whole;
  }

  get(name: string): LayerResult | undefined {
    return this.#whole.get(name);
  }
}

function mergeExperts(experts: readonly LayerResult[]): LayerResult {
  const [first] = experts;
  const stats = foldNumbers("quantize", experts.map((expert) => expert.stats));
  const shape = [
    experts.reduce((rows, expert) => rows + expert.shape[0]!, 0),
    ...first!.shape.slice(1),
  ];
  return {
    ...first!,
    shape,
    stats,
    errors: layerErrors(stats),
    note: mergeNotes(experts.map(({ note }) => note)),
    compensated: mergeRows(experts.map(({ compensated }) => compensated)),
    learned: null,
  };
}

/** Note of the method for most of a bank, and the number of its experts. */
function mergeNotes(notes: readonly (Note | null)[]): Note | null {
  const compensated = notes.filter((note): note is CompensatedNote => note?.kind === "compensated");
  const [first] = compensated;
  if (first === undefined) return notes.find((note) => note !== null) ?? null;
  return {
    ...first,
    damping: Math.max(...compensated.map(({ damping }) => damping ?? 0)),
    dampingRaised: compensated.some(({ dampingRaised }) => dampingRaised),
    deadChannels: compensated.reduce((sum, { deadChannels }) => sum + deadChannels, 0),
    experts: { compensated: compensated.length, all: notes.length },
  };
}

function mergeRows(rows: readonly (CompensatedRows | null)[]): CompensatedRows | null {
  const known = rows.filter((one) => one !== null);
  if (known.length === 0) return null;
  return {
    toNearest: known.reduce((sum, { toNearest }) => sum + toNearest, 0),
    all: known.reduce((sum, { all }) => sum + all, 0),
  };
}
