/** `quantsmith SRC [DST]`: the conversion, and the dry runs that only plan it. */

import { layerName } from "../../core/layer_name.ts";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { commandWords } from "../command_words.ts";
import { layerConfigTemplate, type TemplateLayer } from "../../config/layer_template.ts";
import { convertModel, type ConvertResult } from "../../convert/convert.ts";
import { isLayer } from "../../plan/layer_control.ts";
import type { ConvertOptions } from "../../plan/options.ts";
import { isWide, type Plan } from "../../plan/plan.ts";
import { prepareFitted } from "../../convert/fit/prepare_fitted.ts";
import { defaultWorkers } from "../../run/workers/default_workers.ts";
import { PoolKeeper } from "../../run/workers/pool_keeper.ts";
import { EventWriter } from "../events.ts";
import { createLog } from "../log.ts";
import { askedConversion } from "../options.ts";
import { autoOutputName, nameFacts } from "../output_name.ts";
import type { Parsed } from "../parse.ts";
import { fitJson, fitLines } from "../fit_report.ts";
import { planJson, planLines } from "../plan_report.ts";
import { GpuKeeper } from "../device.ts";
import { createProgress } from "../progress.ts";
import { writeSideFile } from "../../safetensors/side_file.ts";
import { localNameOf } from "../../remote/location.ts";
import { checkOutput } from "../../safetensors/leftovers.ts";
import type { CommandContext } from "../context.ts";
import { openFor } from "../open_input.ts";
import { versionLine } from "../version.ts";

import type { ConversionOutcome, ConversionRequest } from "./conversion_request.ts";
import { ConversionReporter } from "./conversion_reporter.ts";
import { checkReport } from "./check_report.ts";
import { Ending } from "./ending.ts";
import { isFitted } from "../../quant/level_grid.ts";
import { outputOf } from "../../formats/outputs.ts";

/** Runs the conversion or dry run that `parsed` asks for; returns the exit code. */
export async function convertCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const { options, io, warnings, warningsOnCpu } = askedConversion(parsed);
  const events = io.json && io.dryRun === null ? new EventWriter(context.stdout) : null;
  const log = createLog(io.verbosity, {
    stderr: context.stderr,
    onWarning: (message) => events?.warning(message),
  });
  for (const warning of warnings) log.warn(warning);
  const request: ConversionRequest = { options, io, warningsOnCpu, context, log };
  if (io.dryRun === "analyze" || io.dryRun === "full") return await analyze(request);
  if (io.dryRun === "create-template") return await createTemplate(request);
  return (await runConversion(request)).code;
}

async function analyze({ options, io, context, log }: ConversionRequest): Promise<number> {
  using input = await openFor(io.input, { context, log });
  const { plan, notes, loras, fit } = await prepareFitted(input.model, options, { dryRun: true });
  for (const note of notes) log.warn(note);
  if (io.json) {
    context.stdout(JSON.stringify({
      ...planJson(plan, loras),
      ...(fit === null ? {} : { fit: fitJson(fit) }),
    }));
  } else {
    const layout = { columns: context.columns, full: io.dryRun === "full" };
    for (const line of planLines(plan, loras, layout)) context.stdout(line);
    for (const line of fit === null ? [] : fitLines(fit)) context.stdout(line);
  }
  return 0;
}

async function createTemplate({ options, io, context, log }: ConversionRequest): Promise<number> {
  using input = await openFor(io.input, { context, log });
  const { plan, notes } = await prepareFitted(input.model, options, { dryRun: true });
  for (const note of notes) log.warn(note);
  const name = localNameOf(io.input);
  const stem = basename(name).replace(/(\.safetensors)?(\.index\.json)?$/, "");
  const path = io.output ?? join(dirname(name), `${stem}_layer_config.json`);
  const inputs = [io.input, ...io.readPaths, ...input.model.paths];
  const template = layerConfigTemplate(templateLayers(plan));
  await writeSideFile(path, template, { force: io.force, inputs, outputs: [] });
  if (io.json) context.stdout(JSON.stringify({ template: path }));
  else context.stdout(`Wrote ${path}`);
  return 0;
}

function templateLayers(plan: Plan): TemplateLayer[] {
  const dtypes = new Map(plan.outputs.map(({ name, dtype }) => [name, dtype]));
  return plan.tensors.flatMap(({ source, action, scheme, linearDtype }): TemplateLayer[] => {
    // Banks that are quantized can be named; other 3-D tensors cannot.
    if (!isLayer(source) && (scheme === null || source.shape.length !== 3)) return [];
    const name = layerName(source.name);
    if (action === "cast" && dtypes.get(source.name) === "F16") {
      return [{ name, entry: { format: "fp16" as const } }];
    }
    if (scheme === null) {
      const isNarrowed = isWide(source.dtype) && dtypes.get(source.name) === "BF16";
      return [{
        name,
        entry: isNarrowed ? { skip: true, kept_as: "bf16" as const } : { skip: true },
      }];
    }
    const { scaling, convrotGroupSize, levels } = scheme, output = outputOf(scheme);
    if (output !== null) {
      const groupSize = levels?.kind === "scaled" ? { group_size: levels.groupCols } : {};
      const codebook = isFitted(levels) ? { codebook: "fit" as const } : {};
      const linear = linearDtype === undefined ? {} : { linear_dtype: linearDtype };
      return [{ name, entry: { format: output, ...groupSize, ...codebook, ...linear } }];
    }
    return [{
      name,
      entry: {
        format: "int8" as const,
        // Layouts of --optimizer quip have no name in a layer config, only flags.
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
  announcePart(request);
  await checkNames(request);
  using input = await openFor(io.input, {
    context,
    log,
    output: io.output,
    keep: io.verify || readsTwice(options),
  });
  const progress = createProgress({
    enabled: io.progress && !io.json && io.verbosity !== "MINIMAL",
    context,
  });
  const reporter = new ConversionReporter(request, input.model, events);
  const source = input.model, ending = new Ending({ source, options, log });
  let result: ConvertResult;
  using ownPools = request.pools === undefined
    ? new PoolKeeper(context.workerUrl, context.early)
    : null;
  using ownGpus = request.gpus === undefined ? new GpuKeeper() : null;
  const gpus = request.gpus ?? ownGpus!;
  const { part } = io, { calibrationPath } = options;
  try {
    result = await convertModel({
      input: input.model,
      output: io.output ??
        ((plan) => autoOutputName(localNameOf(io.input), options, nameFacts(plan))),
      options,
      force: io.force,
      resume: io.resume,
      part: part === null ? undefined : { ...part, command: commandWords(process.argv.slice(2)) },
      program: versionLine(),
      workerUrl: context.workerUrl,
      pools: request.pools ?? ownPools!,
      openGpu: async () => {
        const { workerUrl } = context;
        const gpu = await gpus.take(io.device, { workerUrl, log, memory: io.gpuMemory });
        reporter.onDevice(gpu);
        return gpu;
      },
      onGpuFailure: (reason) => log.warn(`${reason}; the CPU does its work`),
      workers: io.lowMemory ? 1 : io.workers ?? defaultWorkers(),
      memoryLimitBytes: io.memoryLimitBytes,
      signal: context.signal,
      measure: io.reportQuality || io.json || io.reportPath !== null || calibrationPath !== null,
      onPlan: (start) => reporter.onPlan(start),
      onLayer: (layer) => reporter.onLayer(layer),
      onMeasured: (layer) => reporter.onMeasured(layer),
      onProgress: (now) => progress.update(now),
      onWritten: (layers) => ending.begin(layers),
    });
  } finally {
    progress.stop();
  }
  const { outputs } = reporter, { conclude, plain } = await ending.ready(result.layers);
  const code = await conclude(result, { ...request, source, outputs }, { plain, events });
  return { code, result };
}

/** Refuses an output or a report that cannot be written: before the model is opened. */
async function checkNames({ io }: ConversionRequest): Promise<void> {
  if (io.output !== null && io.part === null) {
    await checkOutput(io.output, { force: io.force });
  }
  checkReport(io, { inputs: [], outputs: io.output === null ? [] : [io.output] });
}

/** Says what there is to know of doing a part of a model. */
function announcePart({ io: { part, partNote }, options, log }: ConversionRequest): void {
  if (partNote !== null) log.warn(partNote);
  if (part !== null && (options.fit !== null || options.maxError !== null)) {
    log.info(
      "every part chooses the formats again, the same ones; to choose them once, write them with " +
        "--dry-run=create-template -o layers.json and give the parts --layer-config layers.json instead",
    );
  }
}

/** Whether values are read by more than one run of the workers. */
function readsTwice({ nonfinite, smoothAlpha, calibrationPath }: ConvertOptions): boolean {
  return nonfinite === "keep" || smoothAlpha !== null || calibrationPath !== null;
}
