/** Which tasks of a run go to the GPU, and in chunks of what size. Pure. */

import { GPU_ROTATION_MAX, type GpuWork } from "../backend/backend.ts";
import type { GpuStorage } from "./gpu_requests.ts";
import { chunkGrid, isDoneAlone, needsLinalg } from "./task_kinds.ts";
import {
  isTeamTask,
  MEASURED_AT_A_TIME,
  type MeasureTask,
  type OnGpu,
  type QuantizeTask,
  type Task,
} from "./tasks.ts";

/**
 * Elements of a chunk that is rounded on the GPU: 8 MiB of BF16. Waiting for a result takes about 10 ms on
 * some drivers, whatever its size; with as many chunks under way as there are workers, this keeps up with
 * any disk, and takes the device about 50 MB a worker.
 */
const GPU_CHUNK_ELEMENTS = 1 << 22;

/** Facts that decide on the device of operations. */
export interface GpuPlacement {
  /** Most elements of a rectangle that may be rounded on the GPU at once. */
  readonly maxElements: number;
  /** Most columns of a layer whose errors are compensated there. */
  readonly mostLdlq: number;
  /** Most columns of a layer whose inputs' second moments are summed up there. */
  readonly mostHessian: number;
  /** Devices on which factors, and errors that are multiplied by them, are stored in half width; null: nowhere. */
  readonly half: HalfWidth | null;
  readonly linalg: LinalgPlacement;
}

/** The layers that are compensated in half width, and how. */
export interface HalfWidth {
  readonly storage: Exclude<GpuStorage, "f32">;
  /** Elements of the smallest. */
  readonly leastElements: number;
  /** They have more columns than this, and at most the other number. */
  readonly aboveColumns: number;
  readonly mostColumns: number;
}

/** Which operations of the linear algebra are worth the way to the GPU, and small enough for it. */
export interface LinalgPlacement {
  /** Products (m n k) of the smallest matrix product: below, the way takes longer than the CPU. */
  readonly leastProducts: number;
  /** Elements of the smallest Hadamard transform. */
  readonly leastHadamard: number;
  /** Elements of the largest. */
  readonly mostHadamard: number;
  /** Elements of the largest matrix: one buffer. */
  readonly mostElements: number;
}

/** A way there and back takes about 10 ms; a core of a CPU does 2^29 multiply-adds in twice that. */
const LEAST_PRODUCTS = 2 ** 29;

/** The same for transforms: 2^22 elements of about 12 stages. */
const LEAST_HADAMARD = 2 ** 22;

/** The placement that the limits of a device ask for: values of a rectangle lie in one buffer, as f32. */
export function placementWithin(
  limits: { readonly maxStorageBufferBindingSize: number; readonly maxBufferSize: number },
): GpuPlacement {
  const bytes = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const elements = Math.floor(bytes / 4);
  return {
    maxElements: elements,
    // A block column of a factor, 512 wide, is one buffer.
    mostLdlq: Math.floor(elements / 512),
    mostHessian: Math.floor(elements / 512),
    half: null,
    linalg: {
      leastProducts: LEAST_PRODUCTS,
      leastHadamard: LEAST_HADAMARD,
      mostHadamard: elements,
      mostElements: elements,
    },
  };
}

/** Returns `tasks` with those that the GPU can round marked, and cut as suits it. */
export function placeOnGpu(tasks: readonly Task[], placement: GpuPlacement): Task[] {
  return withFirst(teamsFirst(placed(tasks, placement)));
}

/** Tasks in the order of a run: a layer that one worker would do alone is the team's once it is on the GPU. */
function teamsFirst(tasks: readonly Task[]): Task[] {
  const rankOf = (task: Task) => isDoneAlone(task) ? 1 : isTeamTask(task) ? 0 : 2;
  return tasks.map((task) => ({ task, rank: rankOf(task) }))
    .toSorted((a, b) => a.rank - b.rank).map(({ task }) => task);
}

/** Returns what `tasks`, which are placed, need of a GPU. */
export function gpuWorkOf(tasks: readonly Task[]): Set<GpuWork> {
  const work = new Set<GpuWork>();
  for (const task of tasks) {
    if (needsLinalg(task)) work.add("products");
    const { kind } = task;
    if (kind === "measure") work.add(task.onGpu === undefined ? "int8 products" : "measuring");
    if (kind !== "quantize") continue;
    if (task.transform !== undefined || task.source.transform !== undefined) work.add("transforms");
    if (task.onGpu !== undefined) { for (const one of layerWork(task, task.onGpu)) work.add(one); }
  }
  return work;
}

function layerWork(task: QuantizeTask, { storage, sumsMoments }: OnGpu): GpuWork[] {
  const moments: GpuWork[] = sumsMoments ? ["moments"] : [];
  if (task.learned !== undefined) return [...moments, "learning"];
  if (!isTeamTask(task)) return roundingWork(task);
  const compensation = task.levels === undefined ? "compensation" : "compensation on levels";
  return [...moments, storage === "f32" ? compensation : `${compensation} in ${storage}`];
}

function roundingWork(task: QuantizeTask): GpuWork[] {
  const { source, convrotGroupSize, scaleSearch, levels, floats } = task;
  const work: GpuWork[] = [];
  if (convrotGroupSize !== null && convrotGroupSize > 1) {
    work.push(convrotGroupSize > GPU_ROTATION_MAX ? "rotating large groups" : "rotating");
  }
  if (source.deltas !== undefined) work.push("merging");
  if (floats !== undefined) return [...work, "rounding to floats"];
  if (levels?.scheme.kind === "int4") {
    return [...work, "rounding to one set", ...(scaleSearch ? ["searching clips"] as const : [])];
  }
  if (levels !== undefined) {
    return [...work, levels.scheme.bits === 4 ? "rounding to tables" : "rounding to steps"];
  }
  return [...work, "rounding", ...(scaleSearch ? ["searching scales"] as const : [])];
}

/** Marks one layer of every kind, the first one with a chunk of full size, as one to be checked more. */
function withFirst(tasks: readonly Task[]): Task[] {
  const first = new Map<string, { readonly index: number; readonly elements: number }>();
  tasks.forEach((task, index) => {
    if (!isPlaced(task) || task.onGpu === undefined) return;
    const { rows, cols } = task.kind === "measure" ? task.reference : task.source;
    const elements = Math.min(rows * cols, task.onGpu.chunkElements);
    const kind = kindOnGpu(task), before = first.get(kind);
    if (before === undefined || elements > before.elements) first.set(kind, { index, elements });
  });
  const marked = new Set([...first.values()].map(({ index }) => index));
  return tasks.map((task, index): Task => {
    if (!isPlaced(task) || task.onGpu === undefined || !marked.has(index)) return task;
    return { ...task, onGpu: { ...task.onGpu, isFirst: true } } as Task;
  });
}

function isPlaced(task: Task): task is QuantizeTask | MeasureTask {
  return task.kind === "quantize" || task.kind === "measure";
}

/** Facts that decide on the kernels of a layer and their shapes, but for its rows. */
function kindOnGpu(task: QuantizeTask | MeasureTask): string {
  if (task.kind === "measure") {
    const { scale, cols, convrotGroupSize } = task.stored;
    return JSON.stringify([task.kind, cols, scale?.groupCols ?? null, convrotGroupSize]);
  }
  const { source, groupRows, groupCols, convrotGroupSize, scaleSearch, onGpu } = task;
  const { dtype, cols, deltas } = source;
  return JSON.stringify([
    ...[task.levels?.scheme ?? null, task.floats?.scheme ?? null],
    ...[dtype, cols, deltas?.length ?? 0, groupRows, groupCols, convrotGroupSize, scaleSearch],
    ...[task.compensation?.statistic ?? null, task.compensation?.segments ?? null],
    ...[task.transform === undefined, task.learned?.optimizer ?? null],
    ...[onGpu?.storage, onGpu?.sumsMoments ?? false],
  ]);
}

function placed(tasks: readonly Task[], placement: GpuPlacement): Task[] {
  const { maxElements } = placement;
  const chunkElements = Math.min(GPU_CHUNK_ELEMENTS, maxElements);
  return tasks.map((task): Task => {
    if (task.kind === "measure") {
      const there: MeasureTask = { ...task, onGpu: { chunkElements } };
      return isMeasuredThere(there, placement) ? there : task;
    }
    if (task.kind !== "quantize") return task;
    const goes = task.learned !== undefined
      ? isDescended(task, placement)
      : isTeamTask(task)
      ? isCompensatedThere(task, placement)
      : maxElements > 0;
    if (!goes) return task;
    const { storage } = storageOf(task.transform ?? task.source, placement);
    const onGpu = { chunkElements, maxElements, storage };
    const sumsMoments = isTeamTask(task) && areMomentsThere(task, placement);
    return { ...task, onGpu: sumsMoments ? { ...onGpu, sumsMoments } : onGpu };
  });
}

/** Whether the second moments of a layer's inputs are summed up on the GPU. */
function areMomentsThere(
  { source, compensation }: QuantizeTask,
  { linalg, mostHessian }: GpuPlacement,
): boolean {
  return compensation?.statistic === "activations" && source.cols <= mostHessian &&
    compensation.rows * source.cols ** 2 >= linalg.leastProducts;
}

/** How errors of a layer are stored on the GPU, and the most columns it may have then. */
function storageOf(
  { rows, cols }: { readonly rows: number; readonly cols: number },
  { half, mostLdlq }: GpuPlacement,
): { readonly storage: GpuStorage; readonly most: number } {
  if (half !== null && rows * cols >= half.leastElements && cols > half.aboveColumns) {
    return { storage: half.storage, most: half.mostColumns };
  }
  return { storage: "f32", most: mostLdlq };
}

/** Whether rows of a layer are rounded on the GPU with its factored Hessian. */
function isCompensatedThere(task: QuantizeTask, placement: GpuPlacement): boolean {
  const { rows, cols } = task.transform ?? task.source;
  return task.compensation !== null && cols <= storageOf({ rows, cols }, placement).most &&
    rows * cols ** 2 >= placement.linalg.leastProducts;
}

/** Whether the products of a chunk are worth the way. Changes of biases are left to the CPU. */
function isMeasuredThere(task: MeasureTask, { linalg, maxElements }: GpuPlacement): boolean {
  const { inputs, bias, stored } = task, { rowStep, cols } = chunkGrid(task);
  const rows = Math.min(inputs.rows, MEASURED_AT_A_TIME);
  return inputs.statistic === "activations" && bias === null && stored.transform === undefined &&
    3 * rows * rowStep * cols >= linalg.leastProducts &&
    Math.max(rows, rowStep) * cols <= maxElements && rows * rowStep <= maxElements;
}

/**
 * Whether codes are moved on the GPU: one after the other, for the outputs of the layer, whose second moments
 * lie in one buffer there.
 */
function isDescended(
  { source, compensation, learned }: QuantizeTask,
  { mostHessian, maxElements }: GpuPlacement,
): boolean {
  return compensation !== null && learned?.optimizer === "original" &&
    source.cols <= mostHessian && maxElements > 0;
}
