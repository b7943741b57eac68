/**
 * The conversion as a function: what `convert_to_int8` is in the documents, in this language's idiom.
 */

import { dirname } from "node:path";
import * as v from "valibot";
import { checkOutput } from "../safetensors/leftovers.ts";
import { chooseGpu, type DeviceChoice, type DeviceLog } from "../run/workers/choose_gpu.ts";
import { defaultWorkers } from "../run/workers/default_workers.ts";
import { WORKER_URL } from "../run/workers/worker_url.ts";
import { openInput } from "../run/workers/remote_input.ts";
import { reportLine } from "./library_log.ts";
import {
  convertModel,
  type ConvertResult,
  type ConvertStart,
  type LayerResult,
} from "./convert.ts";
import {
  DEFAULT_PLACEMENT,
  gpuPlacementOf,
  placementRules,
  type PlacementSettings,
} from "../run/gpu_placement.ts";
import {
  checkOptions,
  number,
  oneOf,
  OPTION_ENTRIES,
  outputPath,
  path,
  whole,
  yesOrNo,
} from "../plan/option_schema.ts";
import type { ConvertOptions } from "../plan/options.ts";
import { type GivenOptions, resolveOptions } from "../plan/resolve_options.ts";
import { loadStepsBy } from "./waiting_steps.ts";

loadStepsBy({
  fitFormats: () => import("./fit/fit_formats.ts"),
  fitCodebooks: () => import("./fit/fit_codebooks.ts"),
  smoothing: () => import("./smoothing.ts"),
});

/** Options of {@link convertToInt8}: files, machine, and any of {@link GivenOptions}. */
export interface ConvertToInt8Options extends GivenOptions {
  /**
   * A safetensors file, an index, or a folder of shards; or the `https:` URL of a file or an index, or
   * `hf://owner/repo[/file][@revision]`.
   */
  readonly input: string;
  /** Path of the file to write. */
  readonly outputPath: string;
  /** Replace an existing output. Default: false. */
  readonly force?: boolean | undefined;
  /** Continue an unfinished run of the same conversion. Default: false. */
  readonly resume?: boolean | undefined;
  /** Parallel workers. Default: one per core, at most 8. */
  readonly workers?: number | undefined;
  /**
   * Device to compute on. `auto`: on a real GPU if there is one and the runtime has WebGPU; `gpu`: on any
   * adapter, and a DeviceError if there is none. If a GPU fails, the CPU does its work; see
   * `gpu` of the result. Default: `cpu`.
   */
  readonly device?: DeviceChoice | undefined;
  /** How large operations may be on a GPU, as `--streaming-mode` and its like say. Default: `balanced`. */
  readonly gpuMemory?: Partial<PlacementSettings> | undefined;
  /** Resident bytes to stay under. Default: no limit. */
  readonly memoryLimitBytes?: number | null | undefined;
  /** Measure the errors of outputs with the calibration data. Default: if there is some. */
  readonly measure?: boolean | undefined;
  /** Aborts the conversion; no output is left. */
  readonly signal?: AbortSignal | undefined;
  /** Called with bytes done and in all. */
  readonly onProgress?:
    | ((progress: { doneBytes: number; totalBytes: number; current: string }) => void)
    | undefined;
  /** URL of the worker script, if a bundler has moved it. */
  readonly workerUrl?: URL | undefined;
}

const placement = v.strictObject({
  mode: v.optional(oneOf("off", "minimal", "balanced", "aggressive", "auto")),
  thresholds: v.optional(v.strictObject({
    hadamard: v.optional(number(0)),
    hessian: v.optional(number(0)),
    ldlq: v.optional(number(0)),
  })),
  hasLimits: v.optional(yesOrNo),
  halfWidth: v.optional(oneOf("auto", "on", "off")),
  halfThreshold: v.optional(number(0)),
}, "an object of the settings of GPU memory is needed");

/** Options of {@link convertToInt8} beside those of a conversion. */
const RUN_ENTRIES = {
  input: path,
  outputPath,
  force: v.optional(yesOrNo),
  resume: v.optional(yesOrNo),
  workers: v.optional(whole(1, 64)),
  device: v.optional(oneOf("auto", "cpu", "gpu")),
  gpuMemory: v.optional(placement),
  memoryLimitBytes: v.optional(v.nullable(whole(1))),
  measure: v.optional(yesOrNo),
  signal: v.optional(v.instance(AbortSignal, "an AbortSignal is needed")),
  onProgress: v.optional(v.function("a function is needed")),
  workerUrl: v.optional(v.instance(URL, "a URL is needed")),
};

const DEVICE_LOG: DeviceLog = Object.freeze({
  warn: (message: string) => reportLine("MINIMAL", `warning: ${message}`),
  verbose: (message: string) => reportLine("VERBOSE", message),
});

/**
 * Converts a model to INT8 that ComfyUI loads and returns the plan and the errors of every layer.
 *
 * @throws FormatError for a broken input; UnsupportedError if it is refused; UsageError for an unknown
 * option, a wrong value or a contradiction; DeviceError if a GPU is asked for and there is none; FileError or
 * RemoteError if reading or writing fails; ChangedInputError if an input changes meanwhile; InterruptedError
 * if `signal` aborts.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * const folder = mkdtempSync(join(tmpdir(), "example-"));
 * const input = join(folder, "model.safetensors");
 * // A model of one weight: length of the header, header, values.
 * const data = Float32Array.from({ length: 512 * 256 }, (_, i) => Math.sin(i * i));
 * const header = JSON.stringify({
 *   "blocks.0.lin.weight": { dtype: "F32", shape: [512, 256], data_offsets: [0, data.byteLength] },
 * });
 * const file = new Blob([BigUint64Array.of(BigInt(header.length)), header, data]);
 * writeFileSync(input, await file.bytes());
 *
 * const { layers } = await convertToInt8({ input, outputPath: join(folder, "int8.safetensors") });
 * assert.deepEqual(layers.map(({ name }) => name), ["blocks.0.lin.weight"]);
 * assert.ok(layers[0]!.errors.sqnrDb! > 38);
 * rmSync(folder, { recursive: true });
 * ```
 */
export async function convertToInt8(request: ConvertToInt8Options): Promise<ConvertResult> {
  checkOptions({ ...RUN_ENTRIES, ...OPTION_ENTRIES }, request, { what: "convertToInt8" });
  const {
    input,
    outputPath,
    force = false,
    resume = false,
    workers = defaultWorkers(),
    device = "cpu",
    gpuMemory,
    memoryLimitBytes = null,
    measure = true,
    signal,
    onProgress,
    workerUrl: script = WORKER_URL,
    ...rest
  } = request;
  const options: ConvertOptions = resolveOptions(rest, { what: "convertToInt8" });
  if (options.shardBytes === null) await checkOutput(outputPath, { force });
  using opened = await openInput(input, {
    workerUrl: script,
    spillFolder: dirname(outputPath),
    keep: options.nonfinite === "keep" || options.smoothAlpha !== null ||
      options.calibrationPath !== null,
    signal,
  });
  const memory = { ...DEFAULT_PLACEMENT, ...gpuMemory };
  const gpu = await chooseGpu(device, {
    workerUrl: script,
    log: DEVICE_LOG,
    placementOf: (adapter) => gpuPlacementOf(placementRules(memory, adapter)),
  });
  using _closed = gpu;
  return await convertModel({
    input: opened.model,
    output: outputPath,
    options,
    force,
    resume,
    workers,
    memoryLimitBytes,
    measure,
    workerUrl: script,
    openGpu: () => Promise.resolve(gpu),
    onPlan: reportPlan,
    onLayer: reportLayer,
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress }),
  });
}

function reportPlan({ plan: { totals }, notes, output }: ConvertStart): void {
  for (const note of notes) reportLine("MINIMAL", `warning: ${note}`);
  reportLine(
    "NORMAL",
    `${output}: ${totals.quantize} tensors quantized, ${totals.keep} kept, ${totals.cast} cast`,
  );
}

function reportLayer({ name, errors, note }: LayerResult): void {
  const quality = errors.sqnrDb === null ? "exact" : `SQNR ${errors.sqnrDb.toFixed(2)} dB`;
  reportLine("VERBOSE", `${name}: ${quality}${note === null ? "" : `; ${note}`}`);
}
