/** A conversion as its caller sees it: what is asked for, what is about to be done, what was done. */

import type { FitResult } from "./fit/fit_formats.ts";
import type { LoraReport } from "../lora/plan_merge.ts";
import type { ConvertOptions } from "../plan/options.ts";
import type { Plan } from "../plan/plan.ts";
import type { GpuService, GpuShare } from "../run/workers/gpu_service.ts";
import type { PoolKeeper } from "../run/workers/pool_keeper.ts";
import type { Progress } from "../run/workers/worker_pool.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import type { ReplacedShards } from "../safetensors/replaced_shards.ts";
import type { LayerResult } from "./layer_result.ts";
import type { PartRequest, PartResult } from "./parts/part_run.ts";

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
   * Called with the layers of the result once all values are written, while the system makes them durable: both
   * take time. Must not throw. Not called if nothing was left to do.
   */
  readonly onWritten?: (layers: readonly LayerResult[]) => void;
  /**
   * Continue an unfinished run of the same conversion, and leave progress that can be continued.
   * Default: false.
   */
  readonly resume?: boolean;
  /** Do this part only; `join` makes the output of all. Absent: do all. */
  readonly part?: PartRequest | undefined;
  /** Save progress, so that a run that was killed can be continued. Default: true. */
  readonly keepsJournal?: boolean;
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
  /** The formats that were chosen for a size or an error; null: none was asked for. */
  readonly fit: FitResult | null;
  /** Wall time in milliseconds. */
  readonly elapsedMs: number;
}
