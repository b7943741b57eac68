/**
 * Converts a model: plan, run, rename. The output appears under its name only when it is complete and
 * synced; whatever fails before leaves no trace of it, unless it is to be resumed.
 */

import { waitingSteps } from "./waiting_steps.ts";
import { NonFiniteError, type WorkerPool } from "../run/workers/worker_pool.ts";
import { arenaBytesFor, teamBytesFor } from "../run/workers/run_bytes.ts";
import { PoolKeeper } from "../run/workers/pool_keeper.ts";
import type { GpuService, GpuShare } from "../run/workers/gpu_service.ts";
import { InterruptedError } from "../core/errors.ts";
import { VERSION } from "../core/version.ts";
import type { InputPath } from "../remote/input_path.ts";
import {
  ChangedInputError,
  explainedByChange,
  type FileStamp,
  refuseChanged,
  watchInputs,
} from "../safetensors/input_watch.ts";
import { refuseSameFile } from "../safetensors/output_file.ts";
import { type InputIdentity, inputIdentity } from "../safetensors/input_identity.ts";
import { recoverNames } from "../safetensors/leftovers.ts";
import { checkOutputNames } from "../safetensors/output_set.ts";
import { besideNote, refuseInputShards } from "../safetensors/replaced_shards.ts";
import { type OutputLayout, type OutputNames, outputNames } from "../safetensors/shard_layout.ts";
import { finishedShare } from "../run/workers/checkpoints.ts";
import type { Note } from "../run/note.ts";
import { fetchBytesFor } from "../run/workers/fetch_bytes.ts";
import { WrongResultError } from "../run/checks/gpu_check.ts";
import { workersWithin } from "../run/budget.ts";
import type { ConvertRequest, ConvertResult } from "./conversion.ts";
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
import { type FittedModel, prepareFitted } from "./fit/prepare_fitted.ts";
import type { Prepared } from "./prepare.ts";
import { type LayerResult, layerResult } from "./layer_result.ts";
import { PartRun } from "./parts/part_run.ts";
import { planOfPart } from "./parts/split_plan.ts";
import { type Fingerprint, fingerprintOf } from "./resume/fingerprint.ts";
import { OutputSession, type SessionTimes } from "./resume/output_session.ts";
import { writeBeside } from "./write_inline.ts";
import type { Smoothing } from "./smoothing.ts";
import { Stages } from "../run/staged_progress.ts";
import { inputBytesOf } from "../run/task_kinds.ts";
import type { Task } from "../run/tasks.ts";

export type { ConvertRequest, ConvertResult, ConvertStart } from "./conversion.ts";
export type { GpuShare, LayerResult };

/**
 * Converts `request.input` to `request.output`. If a GPU turns out to compute something wrong, the CPU
 * converts all of it anew: nothing that the device made is in the output.
 *
 * @param times how often progress is saved, and how long locks are watched; by default as users need it.
 * @throws FormatError for a broken input; UnsupportedError if it is refused; UsageError if options
 * contradict one another; InterruptedError if `signal` aborts; Error if reading or writing fails
 * or a value cannot be quantized. No output is left behind.
 */
export async function convertModel(
  request: ConvertRequest,
  times: SessionTimes = {},
): Promise<ConvertResult> {
  const started = performance.now();
  let gpu: GpuService | null = null;
  try {
    return await convertOnce({
      ...request,
      openGpu: async () => gpu = await request.openGpu?.() ?? null,
    }, times);
  } catch (error) {
    const broken = gpu as GpuService | null;
    if (!(error instanceof WrongResultError) || broken === null) throw error;
    broken.distrust(error.message);
    // The plan is what it was, and people have seen it.
    const { onPlan: _shown, onGpuFailure: _told, ...again } = request;
    const result = await convertOnce({ ...again, openGpu: () => Promise.resolve(broken) }, times);
    return { ...result, elapsedMs: performance.now() - started };
  }
}

async function convertOnce(
  request: ConvertRequest,
  times: SessionTimes,
): Promise<ConvertResult> {
  const started = performance.now();
  const named = await prepareNamed(request, times), { prepared } = named;
  const watched = watchInputs(prepared.model, inputsOf(prepared, request.options));
  const opened = await request.openGpu?.() ?? null;
  const doneBefore = opened?.doneCount ?? 0;
  if (opened !== null) opened.onFailure = (message) => request.onGpuFailure?.(message);
  const gpu = await provenGpu(opened, request, prepared);
  const work = await tasksOf(gpu, prepared, prepared.plan);
  const workers = workersFor(request, prepared, work.tasks);
  using own = request.pools === undefined ? new PoolKeeper(request.workerUrl) : null;
  const pool = (request.pools ?? own!).take(workers, gpu);
  prepared.refuseOddScales();
  const setting: Setting = { ...named, request, times, gpu, work, workers, pool, started };
  const part = await partOf(setting), { force = false } = request;
  const finished = await part?.finished({ force }) ?? null;
  if (part !== null && finished !== null) return finishedPart(setting, part, finished);
  const final = await finalPlan(setting, part);
  const session = await openSession(setting, final, part);
  // Another run may have finished it before this one got the lock.
  const meanwhile = await part?.finished({ force }) ?? null;
  if (part !== null && meanwhile !== null) {
    session.leave({ isUseful: false });
    return finishedPart(setting, part, meanwhile);
  }
  const done = await carryOut(setting, final, { session, part, watched });
  const elapsedMs = performance.now() - started, { layers } = done;
  await part?.end({ whole: final.whole, own: final.plan, layers, elapsedMs });
  for (const layer of layers) {
    if (layer.output !== null || layer.bias !== null) request.onMeasured?.(layer);
  }
  return {
    ...done,
    plan: final.plan,
    output: final.names.main,
    files: final.names.files,
    workers,
    gpu: opened?.shareSince(doneBefore) ?? null,
    part: part?.result(false) ?? null,
    fit: prepared.fit,
    elapsedMs: performance.now() - started,
  };
}

/** A model that is planned, and the output that it will be. */
interface Named {
  readonly prepared: FittedModel;
  readonly output: string;
  /** Refuses an output of so many files that is there already. */
  checkNames(output: string, count: number): void;
}

/** Everything that a conversion has at hand once its plan is made. */
interface Setting extends Named {
  readonly request: ConvertRequest;
  readonly times: SessionTimes;
  /** Null: the CPU does all. */
  readonly gpu: GpuService | null;
  /** The work of the plan as it was made first. */
  readonly work: Work;
  readonly workers: number;
  readonly pool: WorkerPool;
  readonly started: number;
}

/** Plans the conversion, and refuses what it must not write: before any work. */
async function prepareNamed(request: ConvertRequest, times: SessionTimes): Promise<Named> {
  const { force = false } = request;
  // How many shards there will be is not known yet, and the name is none of theirs.
  const checkNames = (output: string, count: number) =>
    request.part !== undefined ? undefined : checkOutputNames(output, count, { force });
  if (typeof request.output === "string") {
    await recoverNames(request.output, times);
    if (request.options.shardBytes === null) checkNames(request.output, 1);
  }
  const prepared = await prepareFitted(request.input, request.options);
  const output = typeof request.output === "string"
    ? request.output
    : request.output(prepared.plan);
  refuseInputs(outputNames(output, prepared.plan.parts.length), prepared, request.options);
  if (typeof request.output !== "string") await recoverNames(output, times);
  checkNames(output, prepared.plan.parts.length);
  return { prepared, output, checkNames };
}

/** The part of the model that is asked for; null: all of it is. */
async function partOf(
  { request, prepared, output, pool }: Setting,
): Promise<PartRun | null> {
  if (request.part === undefined) return null;
  const made = {
    inputs: identitiesOf(request.options, prepared),
    plan: prepared.plan,
    work: await tasksOf(null, prepared, prepared.plan),
    device: pool.device,
  };
  const part = new PartRun(output, request.part, fingerprintBy(request, made));
  refuseInputs(outputNames(part.path, 1), prepared, request.options);
  return part;
}

/** What there is to say of a part that a run before this one has finished. */
function finishedPart(
  { request, prepared, work, workers, started }: Setting,
  part: PartRun,
  { layers }: Pick<ConvertResult, "layers">,
): ConvertResult {
  return {
    plan: request.part === undefined
      ? prepared.plan
      : planOfPart(prepared.plan, work.tasks, request.part),
    output: part.path,
    files: [part.path],
    layers,
    workers,
    gpu: null,
    resumed: null,
    replaced: { removed: [], left: [] },
    part: part.result(true),
    fit: prepared.fit,
    elapsedMs: performance.now() - started,
  };
}

/** What is done in the end, once values were looked at. */
interface FinalPlan {
  /** Of the whole model. */
  readonly whole: Plan;
  /** Of what this run writes: the whole, or a part. */
  readonly plan: Plan;
  /** How values are read: smoothed, if they are. */
  readonly prepared: Prepared;
  readonly work: Work;
  readonly names: OutputNames;
  readonly notes: readonly string[];
}

/** Looks at the values that the plan depends on, and returns the plan that is carried out. */
async function finalPlan(setting: Setting, part: PartRun | null): Promise<FinalPlan> {
  const { request, prepared, output, pool, work, gpu } = setting;
  const { signal, options } = request, { staticActivations } = options;
  await checkStatistics(prepared, prepared.plan, { pool, signal, staticActivations });
  const whole = options.nonfinite === "keep"
    ? await planAround(prepared, pool, { signal, tasks: work.tasks })
    : prepared.plan;
  if (whole.parts.length !== prepared.plan.parts.length) {
    refuseInputs(outputNames(output, whole.parts.length), prepared, options);
    setting.checkNames(output, whole.parts.length);
  }
  const smoothing = await smoothingOf(prepared, whole, { request, pool });
  const plan = request.part === undefined
    ? whole
    : planOfPart(whole, (await tasksOf(null, prepared, whole)).tasks, request.part);
  const names = outputNames(part?.path ?? output, plan.parts.length);
  const beside = besideNote(names, inputsOf(prepared, options));
  const notes = [
    ...prepared.notes,
    ...smoothing?.notes ?? [],
    ...(beside === null ? [] : [beside]),
  ];
  const final = smoothing === null
    ? prepared
    : (await waitingSteps().smoothing()).smoothed(prepared, smoothing);
  const isAsFirst = plan === prepared.plan && final === prepared;
  const finalWork = isAsFirst ? work : await tasksOf(gpu, final, plan);
  return { whole, plan, prepared: final, work: finalWork, names, notes };
}

/** Does the work, and gives the output its name. */
async function carryOut(
  { request, prepared, gpu, pool, workers }: Setting,
  final: FinalPlan,
  { session, part, watched }: {
    readonly session: OutputSession;
    readonly part: PartRun | null;
    readonly watched: readonly FileStamp[];
  },
): Promise<Pick<ConvertResult, "layers" | "replaced" | "resumed">> {
  const { plan, work, names, notes } = final;
  try {
    const resumed = session.resumed === null
      ? null
      : finishedShare(work.tasks, session.resumed.chunks);
    request.onPlan?.({
      plan,
      output: names.main,
      notes: session.note === null ? notes : [...notes, session.note],
      loras: prepared.loras,
      workers,
      gpu: gpu?.adapter.name ?? null,
      resumed,
    });
    const layers = await execute(request, final.prepared, { plan, pool, session, work });
    await prepared.model.secondLook?.();
    refuseChanged(watched);
    part?.begin();
    const committed = session.commit();
    request.onWritten?.(layers);
    return { layers, replaced: await committed, resumed };
  } catch (error) {
    throw leftBehind(session, explainedByChange(watched, error));
  }
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
  const { findSmoothing } = await waitingSteps().smoothing();
  return await findSmoothing(prepared, plan, { alpha, pool, run: { signal } });
}

/** Opens the output, and what an unfinished run left of it. */
function openSession(
  { request, times, output, pool }: Setting,
  { prepared, plan, work }: FinalPlan,
  part: PartRun | null,
): Promise<OutputSession> {
  const { force = false, resume = false, options, signal } = request;
  const inputs = identitiesOf(options, prepared);
  return OutputSession.open(part?.path ?? output, layoutOf(plan), {
    // A part without a manifest was never finished.
    force: force || part !== null,
    resume,
    times,
    tasks: work.tasks,
    rewritten: rewrittenBiases(prepared, plan, options),
    signal,
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
  const results = new LayerResults(tasks);
  const notes = new Map<number, Note>();
  try {
    await writeBeside(output, inline, {
      signal: request.signal,
      run: (signal) =>
        pool.run({
          inputPaths: prepared.inputPaths,
          outputs: output.places,
          tasks,
          signal,
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
        }),
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
