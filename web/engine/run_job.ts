/** One conversion in a browser, from the files that were given to the output and its report. */

import { chooseGpu } from "../../src/run/workers/choose_gpu.ts";
import { PoolKeeper } from "../../src/run/workers/pool_keeper.ts";
import { EarlyWorkers } from "../../src/run/workers/run_thread.ts";
import { convertModel, type ConvertResult } from "../../src/convert/convert.ts";
import { isAllInt8, qualityText } from "../../src/cli/closing.ts";
import { nextStep } from "../../src/cli/next_step.ts";
import { verdictOf } from "../../src/cli/verdict.ts";
import { overallOutput } from "../../src/convert/output_errors.ts";
import { methodOf } from "../../src/cli/method_line.ts";
import { codeHistograms } from "../../src/cli/report/code_histogram.ts";
import { htmlReport, shownByDefault } from "../../src/cli/report/html.ts";
import { conversionReport, type ReportJson } from "../../src/cli/report/report_data.ts";
import { verifyOutput } from "../../src/cli/verify_output.ts";
import type { CommandContext } from "../../src/cli/context.ts";
import { versionLine } from "../../src/cli/version.ts";
import { overallErrors } from "../../src/run/layer_statistics.ts";
import { type PlainRows, plainRows } from "../../src/convert/plain_rows.ts";
import type { ConvertOptions } from "../../src/plan/options.ts";
import { RUN_DEFAULTS } from "../../src/plan/options.ts";
import { resolveOptions } from "../../src/plan/resolve_options.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { UsageError } from "../../src/core/errors.ts";
import { OUTPUT_FOLDER } from "../files/file_table.ts";
import { outputNameOf, planFacts } from "./plan_facts.ts";
import type { ConvertEvent, ConvertJob, Summary, Verdict } from "./protocol.ts";

/** Plain rows are measured on so many weights, at so many places: a read takes a browser one or two milliseconds. */
const SAMPLED = { sampledElements: 2 ** 21, mostPlaces: 256 } as const;

/** Surroundings of a job. */
export interface JobContext {
  readonly workerUrl: URL;
  readonly signal: AbortSignal;
  readonly report: (event: ConvertEvent) => void;
}

/**
 * Converts a model. The output is complete in its store when this returns.
 *
 * @throws as `convertModel`; nothing is left in the store then.
 */
export async function runJob(job: ConvertJob, context: JobContext): Promise<Summary> {
  const { workerUrl, signal, report: send } = context;
  const options = resolveOptions(job.options, { what: "quantsmith.convert" });
  if (options.shardBytes !== null) {
    throw new UsageError("Cannot write shards from a page: it writes one file; the program does");
  }
  // Threads load their code while a GPU is looked for and the plan is made.
  using early = new EarlyWorkers(workerUrl);
  using pools = new PoolKeeper(workerUrl, early);
  const gpu = await chooseGpu(job.device, {
    workerUrl,
    log: {
      warn: (message) => send({ type: "warning", message }),
      verbose: () => {},
    },
  });
  using _closed = gpu;
  const nameOf = (plan: ConvertResult["plan"]) =>
    job.outputName ?? outputNameOf(job.model, plan, options);
  const result = await convertModel({
    input: job.model,
    output: (plan) => `${OUTPUT_FOLDER}/${nameOf(plan)}`,
    options,
    workerUrl,
    pools,
    openGpu: () => Promise.resolve(gpu),
    onGpuFailure: (reason) =>
      send({ type: "warning", message: `${reason}; the CPU does its work` }),
    workers: job.workers,
    signal,
    measure: true,
    // Leftovers of a closed page cannot be found again: no run could continue them.
    keepsJournal: false,
    program: versionLine(),
    onPlan: ({ plan, notes, loras, workers, gpu: adapter }) => {
      const facts = planFacts(plan, { ...job, options, notes, loras, expectedError: null });
      send({ type: "start", workers, gpu: adapter, output: facts.outputName, plan: facts });
      for (const message of notes) send({ type: "warning", message });
    },
    onLayer: ({ name, errors: { relativeError, sqnrDb } }) =>
      send({ type: "layer", name, relativeError, sqnrDb }),
    onProgress: (progress) => send({ type: "progress", ...progress }),
  });
  if (job.verify) send({ type: "verifying" });
  const verified = job.verify ? await checkOf(result, { job, options, context }) : null;
  return summaryOf(result, { job, options, verified });
}

async function checkOf(
  result: ConvertResult,
  { job, options, context }: { job: ConvertJob; options: ConvertOptions; context: JobContext },
): Promise<Verdict> {
  const isAsSource = options.merge === null && options.smoothAlpha === null;
  const { workerUrl, signal } = context;
  return await verifyOutput(result.output, {
    source: isAsSource ? openModel(job.model) : null,
    correctedBiases: new Set(
      result.layers.flatMap(({ bias }) => bias !== null && bias.factor > 0 ? [bias.name] : []),
    ),
    // It uses nothing of a terminal.
    context: { workerUrl, signal } as CommandContext,
    workers: job.workers,
  });
}

function summaryOf(
  result: ConvertResult,
  { job, options, verified }: {
    job: ConvertJob;
    options: ConvertOptions;
    verified: Verdict | null;
  },
): Summary {
  const overall = overallErrors(result.layers);
  const output = overallOutput(result.layers);
  const { totals } = result.plan;
  const verdict = verdictOf(result.layers);
  const plain = plainRows(openModel(job.model), result.layers, options, SAMPLED);
  const report = job.report ? reportOf(result, { job, options, plain }) : null;
  return {
    output: result.output.slice(OUTPUT_FOLDER.length + 1),
    elapsedMs: result.elapsedMs,
    inputBytes: totals.inputBytes,
    outputBytes: totals.outputBytes,
    layers: result.layers.length,
    sqnrDb: overall?.sqnrDb ?? null,
    relativeError: overall?.relativeError ?? null,
    outputError: output === null ? null : output.w8a8 ?? output.w8a16,
    quality: verdict === null ? null : qualityText(verdict, plain, isAllInt8(result)),
    next: nextStep(result.plan, result.output.slice(OUTPUT_FOLDER.length + 1)),
    verified,
    reportHtml: report === null ? null : pageOf(result, report),
    report,
  };
}

function reportOf(
  result: ConvertResult,
  { job, options, plain }: {
    job: ConvertJob;
    options: ConvertOptions;
    plain: PlainRows | null;
  },
): ReportJson {
  return conversionReport(result, {
    input: job.model,
    // A page has no command line.
    command: [],
    method: methodOf(result.plan, options).replace(/^method: /, ""),
    calibration: options.calibrationPath ?? options.calibrationLora,
    thresholdDb: RUN_DEFAULTS.qualityThresholdDb,
    plain,
    program: versionLine(),
    created: new Date(),
  });
}

function pageOf(result: ConvertResult, report: ReportJson): string {
  const histograms = codeHistograms(openModel(result.output), shownByDefault(report));
  return htmlReport(report, histograms);
}
