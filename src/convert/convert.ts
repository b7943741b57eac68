/**
 * Converts a model: plan, run, rename. The output appears under its name only when it is complete and
 * synced; whatever fails before leaves no trace of it, unless it is to be resumed.
 */

import {
  arenaBytesFor,
  NonFiniteError,
  type Progress,
  teamBytesFor,
  type WorkerPool,
} from "../run/workers/worker_pool.ts";
import { PoolKeeper } from "../run/workers/pool_keeper.ts";
import type { GpuService, GpuShare } from "../run/workers/gpu_service.ts";
import { InterruptedError } from "../core/errors.ts";
import { VERSION } from "../core/version.ts";
import type { LoraReport } from "../lora/plan_merge.ts";
import type { InputPath } from "../remote/input_path.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import {
  ChangedInputError,
  explainedByChange,
  refuseChanged,
  watchInputs,
} from "../safetensors/input_watch.ts";
import { refuseSameFile } from "../safetensors/output_file.ts";
import { type InputIdentity, inputIdentity } from "../safetensors/input_identity.ts";
import { recoverNames } from "../safetensors/leftovers.ts";
import { checkOutputNames } from "../safetensors/output_set.ts";
import {
  besideNote,
  refuseInputShards,
  type ReplacedShards,
} from "../safetensors/replaced_shards.ts";
import { type OutputLayout, type OutputNames, outputNames } from "../safetensors/shard_layout.ts";
import { finishedShare } from "../run/workers/checkpoints.ts";
import type { Note } from "../run/note.ts";
import { fetchBytesFor } from "../run/workers/remote_input.ts";
import { WrongResultError } from "../run/checks/gpu_check.ts";
import { workersWithin } from "../run/budget.ts";
import { checkStatistics } from "./check_statistics.ts";
import { nonFiniteOf } from "../run/layer_statistics.ts";
import { LayerResults } from "./layer_results.ts";
import { finishLayers, rewrittenBiases } from "./finish_layers.ts";
import { finishingArenaBytes, finishingBytes } from "./finishing_needs.ts";
import { deltaBytes } from "../plan/lora_merge.ts";
import type { Work } from "../run/make_tasks.ts";
import { provenGpu, tasksOf } from "./proven_gpu.ts";
import type { ConvertOptions } from "../plan/options.ts";
import { explainNonFinite, planAround } from "./non_finite.ts";
import type { Plan } from "../plan/plan.ts";
import { prepare, type Prepared } from "./prepare.ts";
import { type LayerResult, layerResult } from "./layer_result.ts";
import { type PartRequest, type PartResult, PartRun } from "./parts/part_run.ts";
import { planOfPart } from "./parts/split_plan.ts";
import { type Fingerprint, fingerprintOf } from "./resume/fingerprint.ts";
import { OutputSession, type SessionTimes } from "./resume/output_session.ts";
import { findSmoothing, smoothed, type Smoothing } from "./smoothing.ts";
import { Stages } from "../run/stages.ts";
import { inputBytesOf } from "../run/task_kinds.ts";
import type { Task } from "../run/tasks.ts";

export type { GpuShare, LayerResult };

/** A conversion to be done. */
export interface ConvertRequest {
  /** A safetensors file, an index, or a folder of shards; or a model that is open. */
  readonly input: string | ModelSource;
  /** Path of the output, or how it is named after what it will hold. */
  readonly output: string | ((plan: Plan) => string);
  readonly options: ConvertOptions;
  /** Replace an existing output. */
  readonly force?: boolean;
  /** URL of `src/run/workers/worker.ts`, built in the main module. */
  readonly workerUrl: URL;
  /** Keeps the workers for the next conversion; absent: they end with this one. */
  readonly pools?: PoolKeeper | undefined;
  /**
   * Opens the GPU that does what suits it, or says that there is none (null); called before the work. The
   * caller closes it. Absent: the CPU does all. One that has failed is not used.
   */
  readonly openGpu?: () => Promise<GpuService | null>;
  /** Called once, if the GPU fails or computes something wrong: the CPU does its work. */
  readonly onGpuFailure?: (message: string) => void;
  /** Most workers. */
  readonly workers: number;
  /** Resident bytes that the run must stay under; null: no limit. */
  readonly memoryLimitBytes?: number | null;
  readonly signal?: AbortSignal;
  /** Called before the work begins. */
  readonly onPlan?: (start: ConvertStart) => void;
  /** Called once per layer, and again for those that are done again because the GPU computed something wrong. */
  readonly onLayer?: (layer: LayerResult) => void;
  readonly onProgress?: (progress: Progress) => void;
  /** Measure the errors of outputs, if the calibration data allows. Default: false. */
  readonly measure?: boolean;
  /** Called with every layer whose output was measured, or whose bias was corrected. */
  readonly onMeasured?: (layer: LayerResult) => void;
  /**
   * Continue an unfinished run of the same conversion, and leave progress that can be continued.
   * Default: false.
   */
  readonly resume?: boolean;
  /** Do this part only; `join` makes the output of all. Absent: do all. */
  readonly part?: PartRequest | undefined;
  /** Save progress, so that a run that was killed can be continued. Default: true. */
  readonly keepsJournal?: boolean;
  /** How often progress is saved. */
  readonly times?: SessionTimes;
  /** Name of the program, with its build. Default: the version. */
  readonly program?: string;
}

/** The conversion that is about to run. */
export interface ConvertStart {
  readonly plan: Plan;
  /** Path of the file that will be written; of the index, if there are shards. */
  readonly output: string;
  /** Things a user should know, one sentence each. */
  readonly notes: readonly string[];
  /** Reports of the LoRAs, in the order they are merged. */
  readonly loras: readonly LoraReport[];
  readonly workers: number;
  /** Name of the GPU that takes part; null: none does. */
  readonly gpu: string | null;
  /** Share of the work that an unfinished run had finished, 0..1; null: this one begins. */
  readonly resumed: number | null;
}

/** Result of a conversion. */
export interface ConvertResult {
  /** The plan that it followed. */
  readonly plan: Plan;
  /** Path of the file that was written; of the index, if there are shards. */
  readonly output: string;
  /** The safetensors files that were written: one, or the shards. */
  readonly files: readonly string[];
  /** In the order of the input. */
  readonly layers: readonly LayerResult[];
  /** How many workers shared the work. */
  readonly workers: number;
  /** The part of a GPU in it; null: none took part. */
  readonly gpu: GpuShare | null;
  /** Share of the work that an unfinished run had finished, 0..1; null: none was continued. */
  readonly resumed: number | null;
  /** Shards of an output that was replaced. */
  readonly replaced: ReplacedShards;
  /** Which part this was; null: all of the model. */
  readonly part: PartResult | null;
  /** Wall time in milliseconds. */
  readonly elapsedMs: number;
}

/**
 * Converts `request.input` to `request.output`. If a GPU turns out to compute something wrong, the CPU
 * converts all of it anew: nothing that the device made is in the output.
 *
 * @throws FormatError for a broken input; UnsupportedError if it is refused; UsageError if options
 * contradict one another; InterruptedError if `signal` aborts; Error if reading or writing fails
 * or a value cannot be quantized. No output is left behind.
 */
export async function convertModel(request: ConvertRequest): Promise<ConvertResult> {
  const started = performance.now();
  let gpu: GpuService | null = null;
  try {
    return await convertOnce({
      ...request,
      openGpu: async () => gpu = await request.openGpu?.() ?? null,
    });
  } catch (error) {
    const broken = gpu as GpuService | null;
    if (!(error instanceof WrongResultError) || broken === null) throw error;
    broken.distrust(error.message);
    // The plan is what it was, and people have seen it.
    const { onPlan: _shown, onGpuFailure: _told, ...again } = request;
    const result = await convertOnce({ ...again, openGpu: () => Promise.resolve(broken) });
    return { ...result, elapsedMs: performance.now() - started };
  }
}

async function convertOnce(request: ConvertRequest): Promise<ConvertResult> {
  const started = performance.now();
  const { force = false } = request;
  // How many shards there will be is not known yet, and the name is none of theirs.
  const checkNames = (output: string, count: number) =>
    request.part !== undefined ? undefined : checkOutputNames(output, count, { force });
  if (typeof request.output === "string") {
    await recoverNames(request.output, request.times);
    if (request.options.shardBytes === null) checkNames(request.output, 1);
  }
  const prepared = prepare(request.input, request.options);
  const output = typeof request.output === "string"
    ? request.output
    : request.output(prepared.plan);
  refuseInputs(outputNames(output, prepared.plan.parts.length), prepared, request.options);
  if (typeof request.output !== "string") await recoverNames(output, request.times);
  checkNames(output, prepared.plan.parts.length);
  const watched = watchInputs(prepared.model, inputsOf(prepared, request.options));
  const opened = await request.openGpu?.() ?? null;
  const doneBefore = opened?.doneCount ?? 0;
  if (opened !== null) opened.onFailure = (message) => request.onGpuFailure?.(message);
  const gpu = await provenGpu(opened, request, prepared);
  const work = tasksOf(gpu, prepared, prepared.plan);
  const workers = workersFor(request, prepared, work.tasks);
  using own = request.pools === undefined ? new PoolKeeper(request.workerUrl) : null;
  const pool = (request.pools ?? own!).take(workers, gpu);
  const { signal, options: { staticActivations } } = request;
  prepared.refuseOddScales();
  const part = request.part === undefined ? null : new PartRun(
    output,
    request.part,
    fingerprintBy(request, {
      inputs: identitiesOf(request.options, prepared),
      plan: prepared.plan,
      work: tasksOf(null, prepared, prepared.plan),
      device: pool.device,
    }),
  );
  if (part !== null) refuseInputs(outputNames(part.path, 1), prepared, request.options);
  const finished = await part?.finished({ force }) ?? null;
  const first = request.part === undefined
    ? prepared.plan
    : planOfPart(prepared.plan, work.tasks, request.part);
  const ended = ({ layers }: Pick<ConvertResult, "layers">): ConvertResult => ({
    plan: first,
    output: part!.path,
    files: [part!.path],
    layers,
    workers,
    gpu: null,
    resumed: null,
    replaced: { removed: [], left: [] },
    part: part!.result(true),
    elapsedMs: performance.now() - started,
  });
  if (finished !== null) return ended(finished);
  await checkStatistics(prepared, prepared.plan, { pool, signal, staticActivations });
  const whole = request.options.nonfinite === "keep"
    ? await planAround(prepared, pool, { signal, tasks: work.tasks })
    : prepared.plan;
  if (whole.parts.length !== prepared.plan.parts.length) {
    refuseInputs(outputNames(output, whole.parts.length), prepared, request.options);
    checkNames(output, whole.parts.length);
  }
  const smoothing = await smoothingOf(prepared, whole, { request, pool });
  const plan = request.part === undefined
    ? whole
    : planOfPart(whole, tasksOf(null, prepared, whole).tasks, request.part);
  const written = part?.path ?? output;
  const names = outputNames(written, plan.parts.length);
  const beside = besideNote(names, inputsOf(prepared, request.options));
  const notes = [
    ...prepared.notes,
    ...smoothing?.notes ?? [],
    ...(beside === null ? [] : [beside]),
  ];
  const adapter = gpu?.adapter.name ?? null;
  const { main, files } = names;
  const final = smoothing === null ? prepared : smoothed(prepared, smoothing);
  const isAsFirst = plan === prepared.plan && final === prepared;
  const finalWork = isAsFirst ? work : tasksOf(gpu, final, plan);
  let resumed: number | null = null;
  const session = await openSession(
    // A part without a manifest was never finished.
    part === null ? request : { ...request, force: true },
    final,
    { plan, pool, output: written, work: finalWork },
  );
  // Another run may have finished it before this one got the lock.
  const meanwhile = await part?.finished({ force }) ?? null;
  if (meanwhile !== null) {
    session.leave({ isUseful: false });
    return ended(meanwhile);
  }
  let layers: LayerResult[], replaced: ReplacedShards;
  try {
    if (session.resumed !== null) {
      resumed = finishedShare(finalWork.tasks, session.resumed.chunks);
    }
    request.onPlan?.({
      plan,
      output: main,
      notes: session.note === null ? notes : [...notes, session.note],
      loras: prepared.loras,
      workers,
      gpu: adapter,
      resumed,
    });
    layers = await execute(request, final, { plan, pool, session, work: finalWork });
    await prepared.model.secondLook?.();
    refuseChanged(watched);
    part?.begin();
    replaced = await session.commit();
  } catch (error) {
    throw leftBehind(session, explainedByChange(watched, error));
  }
  const elapsedMs = performance.now() - started;
  await part?.end({ whole, own: plan, layers, elapsedMs });
  for (const layer of layers) {
    if (layer.output !== null || layer.bias !== null) request.onMeasured?.(layer);
  }
  return {
    plan,
    output: main,
    files,
    layers,
    workers,
    gpu: opened?.shareSince(doneBefore) ?? null,
    resumed,
    replaced,
    part: part?.result(false) ?? null,
    elapsedMs: performance.now() - started,
  };
}

/** All files that are read: the output must be none of them. */
function inputsOf({ model, calibration }: Prepared, { merge }: ConvertOptions): InputPath[] {
  const data = calibration === null ? [] : [calibration.path, ...calibration.paths];
  return [...model.paths, ...merge?.paths ?? [], ...data];
}

function refuseInputs(
  { files, index }: OutputNames,
  prepared: Prepared,
  options: ConvertOptions,
): void {
  const inputs = inputsOf(prepared, options);
  if (index !== null) refuseInputShards(index, inputs);
  for (const path of index === null ? files : [index, ...files]) refuseSameFile(path, inputs);
}

async function smoothingOf(
  prepared: Prepared,
  plan: Plan,
  { request, pool }: { request: ConvertRequest; pool: WorkerPool },
): Promise<Smoothing | null> {
  const { smoothAlpha: alpha, output } = request.options;
  if (alpha === null || output === "fp16") return null;
  const { signal } = request;
  return await findSmoothing(prepared, plan, { alpha, pool, run: { signal } });
}

/** Opens the output, and what an unfinished run left of it. */
function openSession(
  request: ConvertRequest,
  prepared: Prepared,
  { plan, pool, output, work }: { plan: Plan; pool: WorkerPool; output: string; work: Work },
): Promise<OutputSession> {
  const { force = false, resume = false, times } = request;
  const inputs = identitiesOf(request.options, prepared);
  return OutputSession.open(output, layoutOf(plan), {
    force,
    resume,
    times,
    tasks: work.tasks,
    rewritten: rewrittenBiases(prepared, plan, request.options),
    signal: request.signal,
    fingerprint: () => fingerprintBy(request, { inputs, plan, work, device: pool.device }),
  });
}

function identitiesOf(options: ConvertOptions, prepared: Prepared): InputIdentity[] {
  const steering = options.calibrationLora === null ? [] : [options.calibrationLora];
  return [...inputsOf(prepared, options), ...steering].map(inputIdentity);
}

/** Everything that decides the bytes of the output of `plan`. */
function fingerprintBy(
  { options, program = VERSION }: ConvertRequest,
  made: { inputs: readonly InputIdentity[]; plan: Plan; work: Work; device: string },
): Fingerprint {
  return fingerprintOf({ program, options, ...made });
}

/** Ends a session that failed, and returns the error for it. */
function leftBehind(session: OutputSession, error: unknown): unknown {
  // Values that cannot be quantized will be there the next time, too; those of two files cannot be used, nor
  // is what a GPU made that computes something wrong.
  const isUseless = error instanceof ChangedInputError || error instanceof WrongResultError ||
    error instanceof Error && error.cause instanceof NonFiniteError;
  const stays = session.leave({ isUseful: !isUseless });
  if (!stays) return error;
  if (error instanceof InterruptedError) {
    return new InterruptedError("`--resume` continues the run");
  }
  return error;
}

function layoutOf({ parts, outputs, totals }: Plan): OutputLayout {
  return { parts, entries: outputs, totalBytes: totals.outputBytes };
}

/** Writes the output of `plan` and returns its quantized layers. */
async function execute(
  request: ConvertRequest,
  prepared: Prepared,
  { plan, pool, session, work: { tasks, inline } }: {
    plan: Plan;
    pool: WorkerPool;
    session: OutputSession;
    work: Work;
  },
): Promise<LayerResult[]> {
  const stages = stagesOf(request, prepared, tasks);
  const { output } = session;
  for (const { bytes, offsetBytes } of inline) output.write(bytes, offsetBytes);
  const results = new LayerResults(tasks);
  const notes = new Map<number, Note>();
  try {
    await pool.run({
      inputPaths: prepared.inputPaths,
      outputs: output.places,
      tasks,
      signal: request.signal,
      onTaskDone: (index, numbers) => {
        const task = tasks[index]!;
        const layer = layerResult(task, numbers, notes.get(index) ?? null);
        if (layer === null || nonFiniteOf(task.kind, numbers).count > 0) return;
        const whole = results.add(index, layer);
        if (whole !== null) request.onLayer?.(whole);
      },
      onNote: (index, note) => notes.set(index, note),
      onProgress: stages.of("weights"),
      journal: request.keepsJournal === false ? undefined : session.journal,
    });
  } catch (error) {
    if (error instanceof NonFiniteError) {
      throw await explainNonFinite(error, tasks[error.task]!, { prepared, pool });
    }
    throw error;
  }
  const finished = await finishLayers(prepared, {
    plan,
    pool,
    outputs: output.places,
    options: request.options,
    measure: request.measure ?? false,
    signal: request.signal,
    stages,
  });
  return plan.tensors.flatMap(({ source }) => {
    const layer = results.get(source.name);
    return layer === undefined ? [] : [{
      ...layer,
      output: finished.outputs.get(source.name) ?? null,
      bias: finished.biases.get(source.name) ?? null,
    }];
  });
}

/** The steps of a run that are shown as one: what is read in each, in bytes. */
function stagesOf(
  { options, measure = false, onProgress }: ConvertRequest,
  prepared: Prepared,
  tasks: readonly Task[],
): Stages<"weights" | "biases" | "outputs"> {
  const weights = tasks.reduce((sum, task) => sum + inputBytesOf(task), 0);
  const { biasCorrection } = options;
  const { biases, outputs } = finishingBytes(prepared, tasks, { biasCorrection, measure });
  const bytes = [["weights", weights], ["biases", biases], ["outputs", outputs]] as const;
  return new Stages(bytes, onProgress);
}

function workersFor(request: ConvertRequest, prepared: Prepared, tasks: readonly Task[]): number {
  const tensorCount = prepared.model.tensors.length;
  const deltas = tasks.flatMap((task) => "source" in task ? task.source.deltas ?? [] : []);
  const needs = {
    arenaBytes: Math.max(arenaBytesFor(tasks), finishingArenaBytes(prepared, tasks)),
    teamBytes: teamBytesFor(tasks),
    sharedBytes: deltaBytes(deltas) + fetchBytesFor(prepared.inputPaths),
    tensorCount,
  };
  return workersWithin(needs, {
    wanted: request.workers,
    limitBytes: request.memoryLimitBytes ?? null,
  });
}
