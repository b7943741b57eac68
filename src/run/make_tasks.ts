/** Cuts tasks from a plan: what the workers do, and what the main thread writes itself. */

import { floatMatrix } from "../formats/float_matrix.ts";
import type { SourceTensor } from "../core/tensor.ts";
import { isLearnedOptimizer } from "../quant/learned/options.ts";
import { groupShape } from "../plan/scheme_choice.ts";
import type { Scheme } from "../quant/scheme.ts";
import { trustOf } from "../quant/data_trust.ts";
import type { Plan, PlannedOutput } from "../plan/plan.ts";
import { besideTheirLike } from "./chunks/inputs_key.ts";
import { expertTasks } from "./expert_tasks.ts";
import { isDoneAlone } from "./task_kinds.ts";
import { isTeamTask, type Learned, type Task, type TaskLevels } from "./tasks.ts";
import type { Compensation } from "../calibration/compensation.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";

/** Bytes that are known without reading: markers. */
export interface InlineWrite {
  readonly bytes: Uint8Array;
  readonly offsetBytes: number;
}

/** Known inputs of a layer, or of one expert of a bank. */
export type CompensationOf = (source: SourceTensor, expert?: number) => Compensation | null;

/** The work of a plan. */
export interface Work {
  readonly tasks: readonly Task[];
  readonly inline: readonly InlineWrite[];
}

/**
 * Returns the tasks of a plan in the order of its input, so that the disk is read forwards. Before all
 * others come those that the workers do together, layers of the same inputs side by side, then those under one
 * scale: one worker streams each of these, and they should not come last.
 *
 * @param matrixOf how the values of a source tensor are read.
 * @param compensationOf what is known of the inputs of a layer.
 * @param replaced bytes of tensors that are written instead of what is planned, by name.
 * @param byExpert names of the banks whose experts are compensated each by its own data.
 */
export function makeTasks(
  plan: Pick<Plan, "outputs">,
  matrixOf: (source: SourceTensor) => MatrixSource = floatMatrix,
  compensationOf: CompensationOf = () => null,
  replaced: ReadonlyMap<string, Uint8Array> = new Map(),
  byExpert: ReadonlySet<string> = new Set(),
): Work {
  const scalesAt = new Map<string, number>(), choicesAt = new Map<string, number>();
  const wholeScaleAt = new Map<string, number>();
  for (const { content, offsetBytes } of plan.outputs) {
    if (content.kind === "scales") scalesAt.set(content.source.name, offsetBytes);
    if (content.kind === "choices") choicesAt.set(content.source.name, offsetBytes);
    if (content.kind === "wholeScale") wholeScaleAt.set(content.source.name, offsetBytes);
  }
  const inline: InlineWrite[] = [];
  const placed: { task: Task; source: SourceTensor; rank: number; work: number }[] = [];
  for (const output of plan.outputs) {
    const { content, offsetBytes } = output;
    const bytes = replaced.get(output.name) ?? (content.kind === "inline" ? content.bytes : null);
    if (bytes !== null) {
      inline.push({ bytes, offsetBytes });
      continue;
    }
    const task = taskOf(output, { matrixOf, compensationOf, scalesAt, choicesAt, wholeScaleAt });
    if (task === null || content.kind === "inline") continue;
    const isStreamed = content.kind === "codes" &&
      (content.scheme.scaling.kind === "tensor" || content.scheme.learned !== undefined);
    const { source } = content;
    const tasks = task.kind === "quantize" && content.kind === "codes" && byExpert.has(source.name)
      ? expertTasks(
        task,
        source.shape[0]!,
        (expert) => compensationIn(content.scheme, compensationOf(source, expert)),
      )
      : [task];
    for (const task of tasks) {
      const isAlone = isDoneAlone(task);
      const rank = isAlone ? 1 : isTeamTask(task) ? 0 : isStreamed ? 2 : 3;
      // The longest ones first, so that workers end together.
      placed.push({ task, source, rank, work: isAlone ? source.shape.at(-1)! : 0 });
    }
  }
  placed.sort((a, b) =>
    a.rank - b.rank || b.work - a.work || a.source.file - b.source.file ||
    a.source.offsetBytes - b.source.offsetBytes
  );
  return { tasks: besideTheirLike(placed).map(({ task }) => task), inline };
}

/** Returns `source` with its LoRAs merged to far more digits than codes have, but not to all. */
function mergedByIntegers(source: MatrixSource): MatrixSource {
  return source.deltas === undefined ? source : { ...source, mergesByIntegers: true };
}

function taskOf(
  output: PlannedOutput,
  { matrixOf, compensationOf, scalesAt, choicesAt, wholeScaleAt }: {
    matrixOf: (source: SourceTensor) => MatrixSource;
    compensationOf: CompensationOf;
    scalesAt: ReadonlyMap<string, number>;
    choicesAt: ReadonlyMap<string, number>;
    wholeScaleAt: ReadonlyMap<string, number>;
  },
): Task | null {
  const { content, name, offsetBytes } = output;
  switch (content.kind) {
    case "copy": {
      const { file, byteLength } = content.source;
      return {
        kind: "copy",
        name,
        file,
        offsetBytes: content.source.offsetBytes,
        byteLength,
        outOffsetBytes: offsetBytes,
      };
    }
    case "cast":
      return {
        kind: "cast",
        name,
        source: matrixOf(content.source),
        dtype: content.dtype,
        outOffsetBytes: offsetBytes,
      };
    case "codes": {
      const source = mergedByIntegers(matrixOf(content.source));
      return {
        kind: "quantize",
        name,
        source,
        ...groupShape(content.scheme, source),
        convrotGroupSize: content.scheme.convrotGroupSize,
        scaleSearch: content.scheme.scaleSearch === "mse",
        compensation: compensationIn(content.scheme, compensationOf(content.source)),
        ...(content.scheme.transform === undefined ? {} : { transform: content.scheme.transform }),
        ...learnedFor(content.scheme),
        ...levelsFor(content.scheme, choicesAt.get(content.source.name) ?? null),
        ...(content.scheme.floats === undefined ? {} : {
          floats: {
            scheme: content.scheme.floats,
            paddedRows: output.shape[0]!,
            wholeScaleOffsetBytes: wholeScaleAt.get(content.source.name) ?? null,
          },
        }),
        codesOffsetBytes: offsetBytes,
        scalesOffsetBytes: scalesAt.get(content.source.name)!,
      };
    }
    default:
      return null;
  }
}

function levelsFor(
  { levels }: Scheme,
  choicesOffsetBytes: number | null,
): { levels?: TaskLevels } {
  return levels === undefined ? {} : { levels: { scheme: levels, choicesOffsetBytes } };
}

function compensationIn(scheme: Scheme, found: Compensation | null): Compensation | null {
  return scheme.method === "rtn" ? null : compensationFor(scheme, found);
}

/** QuIP in original space must not lose to rounding to nearest in any measure, so it is held back by row. */
function compensationFor(scheme: Scheme, found: Compensation | null): Compensation | null {
  if (found === null) return null;
  if (isLearnedOptimizer(scheme.method)) {
    // Channels alone weigh errors; they do not show which errors make up for one another.
    const isDiagonal = found.statistic === "channels" && found.directions === null &&
      scheme.convrotGroupSize === null;
    return isDiagonal ? null : { ...found, segments: null };
  }
  const trusted = { ...found, ...trustOf(scheme) };
  if (scheme.method !== "quip") return trusted;
  const { scaling, convrotGroupSize, transform } = scheme;
  const guarded = scaling.kind === "row" && convrotGroupSize === null && transform === undefined;
  return { ...trusted, guarded, weightedScales: found.weightedScales && !guarded };
}

function learnedFor({ method, learned }: Scheme): { learned?: Learned } {
  if (learned === undefined || !isLearnedOptimizer(method)) return {};
  return { learned: { optimizer: method, ...learned } };
}
