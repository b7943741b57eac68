/** `quantsmith SRC [DST]`: the conversion, and the dry runs that only plan it. */

import { isStockFormat } from "../../formats/written_format.ts";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { commandWords } from "../command_words.ts";
import { layerConfigTemplate, type TemplateLayer } from "../../config/layer_template.ts";
import {
  convertModel,
  type ConvertResult,
  type ConvertStart,
  type GpuShare,
} from "../../convert/convert.ts";
import { isLayer } from "../../plan/layer_control.ts";
import { describeNote, fallbackNotes, rowsNote } from "../../run/layer_notes.ts";
import type { ConvertOptions } from "../../plan/options.ts";
import type { Plan } from "../../plan/plan.ts";
import { prepare } from "../../convert/prepare.ts";
import { defaultWorkers } from "../../run/workers/default_workers.ts";
import type { PoolKeeper } from "../../run/workers/pool_keeper.ts";
import { isLearnedOptimizer, type LearnedOptimizer } from "../../quant/learned/options.ts";
import { explain, presetOfAnother } from "../../presets/explain.ts";
import { EventWriter } from "../events.ts";
import { formatBytes, formatSeconds } from "../format.ts";
import { createLog, type Log } from "../log.ts";
import { autoOutputName, type ConvertIo, type NameFacts, toConvertRequest } from "../options.ts";
import type { Parsed } from "../parse.ts";
import { loraLine, lorasJson, planJson, planLines } from "../plan_report.ts";
import { GpuKeeper } from "../device.ts";
import { type PlacementRules, placementRules } from "../../run/gpu_placement.ts";
import { operationLines, operationsOnCpu, placementJson } from "../placement_report.ts";
import { createProgress } from "../progress.ts";
import { overallOutput } from "../../convert/output_errors.ts";
import { worstLayersFirst } from "../../run/layer_errors.ts";
import { compensatedJson, noteJson } from "../report_json.ts";
import { overallOf, qualityTable, sqnrPhrase } from "../quality_table.ts";
import { checkReportLayers } from "../report/report_layers.ts";
import { writeReport } from "../report/write_report.ts";
import { outputNames } from "../../safetensors/shard_layout.ts";
import { checkSideFile, type SideFileRules, writeSideFile } from "../../safetensors/side_file.ts";
import { displayName, localNameOf } from "../../remote/location.ts";
import type { ModelSource } from "../../safetensors/model_source.ts";
import { checkOutputPath } from "../../safetensors/output_file.ts";
import type { CommandContext } from "../context.ts";
import { openFor } from "../open_input.ts";
import { versionLine } from "../version.ts";
import { verifyOutput } from "../verify_output.ts";

/** Runs the conversion or dry run that `parsed` asks for; returns the exit code. */
export async function convertCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const { options, io, warnings, warningsOnCpu } = toConvertRequest(parsed);
  const events = io.json && io.dryRun === null ? new EventWriter(context.stdout) : null;
  const log = createLog(io.verbosity, {
    stderr: context.stderr,
    onWarning: (message) => events?.warning(message),
  });
  for (const warning of warnings) log.warn(warning);
  const request: Request = { options, io, warningsOnCpu, context, log };
  if (io.dryRun === "analyze") return await analyze(request);
  if (io.dryRun === "create-template") return await createTemplate(request);
  return (await runConversion(request)).code;
}

/** What every part of the command needs. */
export interface ConversionRequest {
  readonly options: ConvertOptions;
  readonly io: ConvertIo;
  /** Of flags that change nothing where no GPU is taken. */
  readonly warningsOnCpu: readonly string[];
  readonly context: CommandContext;
  readonly log: Log;
  /** Keeps the workers for the next conversion of a batch. */
  readonly pools?: PoolKeeper;
  /** Keeps the GPU, as well. */
  readonly gpus?: GpuKeeper;
}

/** What a conversion left. */
export interface ConversionOutcome {
  /** The exit code: 1 where the output was written and a check that was asked for failed. */
  readonly code: 0 | 1;
  readonly result: ConvertResult;
}

type Request = ConversionRequest;

async function analyze({ options, io, context, log }: Request): Promise<number> {
  using input = await openFor(io.input, { context, log });
  const { plan, notes, loras } = prepare(input.model, options, { dryRun: true });
  for (const note of notes) log.warn(note);
  if (io.json) context.stdout(JSON.stringify(planJson(plan, loras)));
  else for (const line of planLines(plan, loras)) context.stdout(line);
  return 0;
}

async function createTemplate({ options, io, context, log }: Request): Promise<number> {
  using input = await openFor(io.input, { context, log });
  const { plan, notes } = prepare(input.model, options, { dryRun: true });
  for (const note of notes) log.warn(note);
  const name = localNameOf(io.input);
  const stem = basename(name).replace(/(\.safetensors)?(\.index\.json)?$/, "");
  const path = io.output ?? join(dirname(name), `${stem}_layer_config.json`);
  const inputs = [io.input, ...io.readPaths, ...input.model.paths];
  const template = layerConfigTemplate(templateLayers(plan));
  writeSideFile(path, template, { force: io.force, inputs, outputs: [] });
  if (io.json) context.stdout(JSON.stringify({ template: path }));
  else context.stdout(`Wrote ${path}`);
  return 0;
}

function templateLayers(plan: Plan): TemplateLayer[] {
  const dtypes = new Map(plan.outputs.map(({ name, dtype }) => [name, dtype]));
  return plan.tensors.flatMap(({ source, action, scheme }): TemplateLayer[] => {
    if (!isLayer(source)) return [];
    const name = source.name.replace(/\.weight$/, "");
    if (action === "cast" && dtypes.get(source.name) === "F16") {
      return [{ name, entry: { format: "fp16" as const } }];
    }
    if (scheme === null) return [{ name, entry: { skip: true } }];
    const { scaling, convrotGroupSize } = scheme;
    return [{
      name,
      entry: {
        format: "int8" as const,
        // What only --optimizer quip stores has no name in a layer config: its flags say it.
        ...(scaling.kind === "group" ? {} : { scaling_mode: scaling.kind }),
        ...(scaling.kind === "block" ? { block_size: scaling.blockSize } : {}),
        convrot: convrotGroupSize ?? "off" as const,
      },
    }];
  });
}

/** Converts one model, says what is done and how well, and returns what came of it. */
export async function runConversion(request: ConversionRequest): Promise<ConversionOutcome> {
  const { options, io, context, log } = request;
  const events = io.json ? new EventWriter(context.stdout) : null;
  if (io.output !== null && io.part === null) checkOutputPath(io.output, { force: io.force });
  checkReport(io, { inputs: [], outputs: io.output === null ? [] : [io.output] });
  using input = await openFor(io.input, {
    context,
    log,
    output: io.output,
    keep: io.verify || readsTwice(options),
  });
  const progress = await createProgress({
    enabled: io.progress && !io.json && io.verbosity !== "MINIMAL",
    context,
  });
  const recipes = new Map<string, Record<string, unknown>>();
  let outputs: readonly string[] = [];
  let result: ConvertResult;
  let rules: PlacementRules | null = null;
  using ownGpus = request.gpus === undefined ? new GpuKeeper() : null;
  const gpus = request.gpus ?? ownGpus!;
  try {
    result = await convertModel({
      input: input.model,
      output: io.output ??
        ((plan) => autoOutputName(localNameOf(io.input), options, nameFacts(plan))),
      options,
      force: io.force,
      resume: io.resume,
      part: io.part === null
        ? undefined
        : { ...io.part, command: commandWords(process.argv.slice(2)) },
      program: versionLine(),
      workerUrl: context.workerUrl,
      pools: request.pools,
      openGpu: async () => {
        const { workerUrl } = context;
        const gpu = await gpus.take(io.device, { workerUrl, log, memory: io.gpuMemory });
        if (gpu === null) { for (const warning of request.warningsOnCpu) log.warn(warning); }
        else rules = placementRules(io.gpuMemory, gpu.adapter);
        return gpu;
      },
      onGpuFailure: (reason) => log.warn(`${reason}; the CPU does its work`),
      workers: io.lowMemory ? 1 : io.workers ?? defaultWorkers(),
      memoryLimitBytes: io.memoryLimitBytes,
      signal: context.signal,
      onPlan: (start) => {
        const { files, index } = outputNames(start.output, start.plan.parts.length);
        outputs = index === null ? files : [index, ...files];
        checkReport(io, { inputs: input.model.paths, outputs });
        checkReportLayers(io, start.plan);
        announce(start, request);
        const onCpu = rules === null ? [] : operationsOnCpu(rules, start.plan);
        // Who asks for the GPU wants to know what it does not do.
        const say = io.device === "gpu" ? log.info : log.verbose;
        for (const line of operationLines(onCpu)) say(line);
        for (const tensor of planJson(start.plan)["tensors"] as Record<string, unknown>[]) {
          recipes.set(String(tensor["name"]), tensor);
        }
        events?.start({
          input: displayName(io.input),
          output: start.output,
          device: start.gpu === null ? "cpu" : "gpu",
          adapter: start.gpu,
          gpu_memory: rules === null ? null : placementJson(rules, onCpu),
          workers: start.workers,
          resumed: start.resumed,
          family: start.plan.detection.family,
          target: start.plan.target,
          totals: totalsJson(start.plan),
          loras: lorasJson(start.loras),
        });
      },
      measure: io.reportQuality || io.json || io.reportPath !== null,
      onMeasured: (layer) =>
        events?.measured({ name: layer.name, output: layer.output, bias: layer.bias }),
      onLayer: (layer) => {
        events?.tensor({
          ...recipes.get(layer.name),
          name: layer.name,
          errors: layer.errors,
          ...noteJson(layer),
          ...compensatedJson(layer.compensated),
          ...(layer.learned === null ? {} : { learned: layer.learned }),
        });
        const words = describeNote(layer.note, layer.compensated);
        if (words !== null) log.verbose(`${layer.name}: ${words}`);
      },
      onProgress: (now) => progress.update(now),
    });
  } finally {
    progress.stop();
  }
  const source = input.model;
  return { code: await conclude(result, { ...request, source, outputs }, events), result };
}

/** Refuses a report that cannot be written, or would replace a file of this run: before the work. */
function checkReport(
  io: ConvertIo,
  { inputs, outputs }: Pick<SideFileRules, "inputs" | "outputs">,
): void {
  if (io.reportPath !== null) {
    checkSideFile(io.reportPath, reportRules(io, { inputs, outputs }));
  }
}

function reportRules(
  { input, readPaths, force }: ConvertIo,
  { inputs, outputs }: Pick<SideFileRules, "inputs" | "outputs">,
): SideFileRules {
  return { force, inputs: [input, ...readPaths, ...inputs], outputs };
}

/** Whether values are read by more than one run of the workers. */
function readsTwice({ nonfinite, smoothAlpha, calibrationPath }: ConvertOptions): boolean {
  return nonfinite === "keep" || smoothAlpha !== null || calibrationPath !== null;
}

/** Returns what the name of an output says of its plan. */
export function nameFacts(plan: Plan): NameFacts {
  const groups = plan.tensors.map(({ scheme }) => scheme?.convrotGroupSize ?? 0);
  const largest = groups.reduce((most, group) => Math.max(most, group), 0);
  return {
    convrotGroup: largest === 0 ? null : largest,
    isCompensated: compensatedCount(plan) > 0,
  };
}

function totalsJson(plan: Plan): unknown {
  return planJson(plan)["totals"];
}

/** Says before the work what will be done, on what, and what the user should know. */
function announce(start: ConvertStart, request: Request): void {
  const { plan, notes, loras } = start;
  const { log, options } = request;
  log.info(deviceLine(start));
  log.info(`model: ${explain(plan.detection, plan.choice)}`);
  const another = presetOfAnother(plan.detection, plan.choice.preset);
  if (another !== null) log.warn(another);
  if (options.method !== "simple" && options.output === "int8") log.info(methodLine(plan, options));
  for (const lora of loras) log.info(`merging: ${loraLine(lora)}`);
  const { totals } = plan;
  const parts = [
    `${totals.quantize} quantized`,
    `${totals.keep} kept`,
    ...(totals.cast > 0 ? [`${totals.cast} cast`] : []),
    ...(totals.remove > 0 ? [`${totals.remove} removed`] : []),
  ];
  log.info(
    `plan: ${parts.join(", ")}; ${formatBytes(totals.inputBytes)} -> ${
      formatBytes(totals.outputBytes)
    }`,
  );
  for (const line of outputLines(start, request)) log.info(line);
  for (const note of notes) log.warn(note);
  for (const fallback of plan.fallbacks) log.verbose(`falls back: ${fallback}`);
  if (plan.fallbacks.length > 0) {
    const count = plan.fallbacks.length;
    log.info(
      `${count} ${count === 1 ? "layer falls" : "layers fall"} back to plain row scaling ` +
        "(--verbose VERBOSE lists them)",
    );
  }
  for (const misfit of plan.misfits) log.verbose(`kept: ${misfit}`);
  if (plan.misfits.length > 0) {
    log.info(
      `${counted(plan.misfits.length, "layer")} kept by --heur: the mode does not fit ` +
        "(--verbose VERBOSE lists them)",
    );
  }
  for (const warning of targetWarnings(plan, options)) log.warn(warning);
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

function deviceLine({ gpu, workers }: ConvertStart): string {
  const shared = `${workers} ${workers === 1 ? "worker" : "workers"}`;
  return gpu === null ? `device: cpu (${shared})` : `device: gpu, ${gpu} (${shared} on the CPU)`;
}

/** Where it goes on, and where it will be. */
function outputLines({ output, plan, resumed }: ConvertStart, { io }: Request): string[] {
  const shards = plan.parts.length > 1 ? ` (${plan.parts.length} shards)` : "";
  const begins = io.resume && resumed === null ? ["resume: nothing to go on with, starting"] : [];
  return [
    `output: ${output}${shards}`,
    ...begins,
    ...(resumed === null ? [] : [`resume: ${(100 * resumed).toFixed(1)}% was finished`]),
  ];
}

function compensatedCount(plan: Plan): number {
  return plan.tensors.filter(({ scheme }) => (scheme?.method ?? "rtn") !== "rtn").length;
}

/** Which method is used, and why. */
function methodLine(plan: Plan, options: ConvertOptions): string {
  const { method, calibrationPath, calibrationLora, quip } = options;
  const learned = plan.tensors.filter(({ scheme }) => scheme?.learned !== undefined).length;
  const data = [
    ...(calibrationPath === null ? [] : [`data in ${calibrationPath}`]),
    ...(calibrationLora === null ? [] : [`directions in ${calibrationLora}`]),
  ].join(" or ");
  if (isLearnedOptimizer(method)) return learnedLine(plan, method, { learned, data });
  const compensated = compensatedCount(plan);
  const name = method === "quip" ? "quip" : "gptq";
  if (data === "") {
    const none = "no calibration data was given";
    if (name === "quip" && quip.storeTransformed) {
      return `method: quip, transformed and rounded to nearest with scale search (${none})`;
    }
    const nothing = method === "auto" ? "" : ": there is nothing to compensate by";
    return `method: ${method}, round to nearest with scale search (${none}${nothing})`;
  }
  if (compensated === 0) {
    return `method: round to nearest with scale search: ${name} compensates by real statistics, and no ` +
      `layer has ${data}`;
  }
  const rest = plan.totals.quantize - compensated;
  return `method: ${name} for ${compensated} layers with ${data}` +
    (rest > 0 ? `, round to nearest with scale search for the ${rest} others` : "");
}

function learnedLine(
  plan: Plan,
  method: LearnedOptimizer,
  { learned, data }: { learned: number; data: string },
): string {
  const rest = plan.totals.quantize - learned;
  const by = data === ""
    ? "by the error in the leading singular directions of each layer (no calibration data was given)"
    : `by the error of the outputs for layers with ${data}, else in their leading ` +
      "singular directions";
  return `method: ${method}, learned rounding of ${learned} ${
    learned === 1 ? "layer" : "layers"
  }, ` +
    by + (rest > 0 ? `; other methods for the ${rest} others` : "");
}

/** What stock ComfyUI will not load, said loudly before it is written. */
function targetWarnings(plan: Plan, options: ConvertOptions): string[] {
  const formats = new Set(plan.tensors.flatMap(({ scheme }) => scheme?.format ?? []));
  const warnings: string[] = [];
  if (plan.totals.quantize === 0 && plan.totals.cast === 0) {
    warnings.push(
      "nothing will be quantized: the output is a copy (`--dry-run` gives the reason for each tensor)",
    );
  }
  for (const format of formats) {
    if (isStockFormat(format)) continue;
    warnings.push(
      `stock ComfyUI does not load ${format} (KeyError); convert_to_quant's own loader and its forks do`,
    );
  }
  if (plan.detection.layout === "lora" && plan.totals.quantize > 0) {
    warnings.push(
      "stock ComfyUI takes the codes of a quantized LoRA for its weights: `quantsmith dequantize` it " +
        "before it is loaded there, or merge the original by --merge-lora",
    );
  }
  if (!options.comfyQuant && plan.totals.quantize > 0) {
    warnings.push(
      "without comfy_quant markers stock ComfyUI does not see that the file is quantized; " +
        "loaders of the old scale_weight layout do",
    );
  }
  return warnings;
}

async function conclude(
  result: ConvertResult,
  request: Request & { readonly source: ModelSource; readonly outputs: readonly string[] },
  events: EventWriter | null,
): Promise<0 | 1> {
  const { io, context, log } = request;
  const overall = overallOf(result.layers);
  const output = overallOutput(result.layers);
  const { options } = request;
  const method = options.output === "fp16"
    ? "cast to F16"
    : options.method === "simple"
    ? "method: simple, round to nearest"
    : methodLine(result.plan, options);
  if (result.part?.wasFinished) {
    const { index, count } = result.part;
    log.info(`part ${index} of ${count} was finished before: nothing is done`);
  }
  const rules = reportRules(io, { inputs: request.source.paths, outputs: request.outputs });
  await writeReport(result, { io, options, method, rules });
  for (const note of fallbackNotes(result.layers)) log.warn(note);
  const rows = rowsNote(result.layers);
  if (rows !== null) log.info(rows);
  const low = result.layers.filter(({ errors }) =>
    errors.sqnrDb !== null && errors.sqnrDb < io.qualityThreshold
  );
  if (io.reportQuality && !io.json) {
    for (const line of qualityTable(result.layers, { thresholdDb: io.qualityThreshold })) {
      context.stdout(line);
    }
    const corrected = result.layers.filter(({ bias }) => bias !== null && bias.factor > 0).length;
    if (corrected > 0) context.stdout(`biases corrected: ${corrected}`);
  }
  if ((io.reportQuality || io.strict) && low.length > 0) {
    log.warn(`${low.length} layers are below ${io.qualityThreshold} dB SQNR`);
  }
  const { totals } = result.plan;
  const readBytes = totals.inputBytes * (1 - (result.resumed ?? 0));
  const rate = formatBytes(1000 * readBytes / Math.max(result.elapsedMs, 1));
  log.info(
    `done: ${formatBytes(totals.outputBytes)} in ${formatSeconds(result.elapsedMs)} ` +
      `(${rate}/s)${overall === null ? "" : `, ${qualityLine(result, overall.sqnrDb)}`}`,
  );
  for (const line of replacedLines(result)) log.info(line);
  if (result.part !== null) log.info("`quantsmith join` makes the output once all parts are there");
  if (result.gpu !== null) log.verbose(gpuLine(result.gpu));
  const check = io.verify
    ? await verifyOutput(result.output, {
      source: request.options.merge === null && request.options.smoothAlpha === null
        ? request.source
        : null,
      correctedBiases: new Set(
        result.layers.flatMap(({ bias }) => bias !== null && bias.factor > 0 ? [bias.name] : []),
      ),
      context,
      workers: result.workers,
    })
    : null;
  for (const line of check?.lines ?? []) log.info(line);
  events?.done({
    output: result.output,
    totals: totalsJson(result.plan),
    quality: overall,
    output_error: output,
    below_threshold: low.map(({ name }) => name),
    verified: check === null ? null : {
      loads: check.loads,
      matches: check.matches,
      problems: check.problems,
    },
    gpu: result.gpu,
    ...(result.part === null ? {} : {
      part: {
        index: result.part.index,
        count: result.part.count,
        manifest: result.part.manifest,
        was_finished: result.part.wasFinished,
      },
    }),
    ...(result.replaced.removed.length === 0 ? {} : { removed_shards: result.replaced.removed }),
    elapsed_ms: Math.round(result.elapsedMs),
  });
  if (check !== null && !(check.loads && check.matches)) return 1;
  return io.strict && low.length > 0 ? 1 : 0;
}

/** What became of the shards of an output that had the name before. */
function replacedLines({ replaced: { removed, left } }: ConvertResult): string[] {
  const shards = (names: readonly string[]) =>
    names.length === 1
      ? `1 shard of the replaced output, ${names[0]}`
      : `${names.length} shards of the replaced output, ${names[0]} to ${names.at(-1)}`;
  return [
    ...(removed.length === 0 ? [] : [`removed: ${shards(removed)}`]),
    ...(left.length === 0
      ? []
      : [`not removed: ${shards(left.map(({ name }) => name))} (${left[0]!.why})`]),
  ];
}

function gpuLine({ adapter, operations, failure }: GpuShare): string {
  const rest = failure === null ? "" : "; the CPU did the rest, as it failed";
  return `${adapter} did ${operations} operations${rest}`;
}

function qualityLine(result: ConvertResult, sqnrDb: number | null): string {
  const worst = worstLayersFirst(result.layers)[0]!;
  return `SQNR ${sqnrPhrase(sqnrDb)} overall, worst ${
    sqnrPhrase(worst.errors.sqnrDb)
  } (${worst.name})`;
}
