/** A conversion as the command line asks for it. */

import type { ConvertOptions } from "../plan/options.ts";
import type { Part } from "../convert/parts/part.ts";
import type { PlacementSettings } from "../run/gpu_placement.ts";
import type { DeviceChoice } from "./device.ts";
import type { Verbosity } from "./log.ts";

/** The request of a conversion beside its options: files, checks, how it runs and reports. */
export interface ConvertIo {
  readonly input: string;
  /** Every other file that is read: LoRAs, calibration data, a layer config, a template. */
  readonly readPaths: readonly string[];
  /** Null: named after the input and the mode. */
  readonly output: string | null;
  readonly force: boolean;
  readonly resume: boolean;
  /** The part of the model that is done; null: all of it. */
  readonly part: Part | null;
  /** Message about a part that was not asked for; null: none. */
  readonly partNote: string | null;
  readonly dryRun: null | "analyze" | "full" | "create-template";
  readonly json: boolean;
  readonly verify: boolean;
  /** Null: as many as the machine has cores. */
  readonly workers: number | null;
  readonly memoryLimitBytes: number | null;
  readonly lowMemory: boolean;
  readonly device: DeviceChoice;
  /** How large operations may be on a GPU. */
  readonly gpuMemory: PlacementSettings;
  readonly reportQuality: boolean;
  /** SQNR in dB. */
  readonly qualityThreshold: number;
  readonly strict: boolean;
  readonly progress: boolean;
  readonly verbosity: Verbosity;
  /** `.html` or `.json`. */
  readonly reportPath: string | null;
  /** Pattern of the layers whose codes an HTML report shows; null: the worst. */
  readonly reportLayers: string | null;
}

/** A conversion as asked for. */
export interface AskedConversion {
  readonly options: ConvertOptions;
  readonly io: ConvertIo;
  /** Flags that change nothing, one sentence each. */
  readonly warnings: readonly string[];
  /** More of them, if it turns out that the CPU computes. */
  readonly warningsOnCpu: readonly string[];
}
