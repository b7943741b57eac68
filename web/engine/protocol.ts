/** Messages between a page and the engine's thread. */

import type { GivenOptions } from "../../src/plan/resolve_options.ts";
import type { DeviceChoice } from "../../src/run/workers/choose_gpu.ts";
import type { Problem } from "../../src/verify/verify.ts";
import type { GivenFile } from "../files/file_table.ts";
import type { StoreResult } from "../files/output_store.ts";
import type { StorePlace } from "../files/store_place.ts";
import type { ThreadOrder, ThreadReport } from "../threads/asked_thread.ts";

/** A model and the options of its conversion. */
export interface Job {
  readonly files: readonly GivenFile[];
  /** Path of the model among the files. */
  readonly model: string;
  readonly options: GivenOptions;
}

/** How a job is carried out. */
export interface ConvertJob extends Job {
  readonly place: StorePlace;
  /** Name of the output; null: after what it holds. */
  readonly outputName: string | null;
  /** Free bytes for it. */
  readonly freeBytes: number;
  readonly workers: number;
  readonly device: DeviceChoice;
  /** Read the output again and judge it. */
  readonly verify: boolean;
  readonly report: boolean;
}

/** Messages to the engine. */
export type EngineMessage =
  | { readonly kind: "look"; readonly job: Job }
  | { readonly kind: "convert"; readonly job: ConvertJob }
  | { readonly kind: "abort" }
  | ThreadReport;

/** A model, and its plan by the options. */
export interface Look {
  readonly tensors: number;
  readonly parameters: number;
  readonly fileBytes: number;
  readonly dtypes: Readonly<Record<string, number>>;
  readonly quantized: Readonly<Record<string, number>>;
  /** The family in words. */
  readonly explanation: string;
  readonly family: string | null;
  /** The plan; null if the model is refused. */
  readonly plan: PlanFacts | null;
  /** Why it is refused; null if it is not. */
  readonly refusal: string | null;
}

/** A plan in numbers and sentences. */
export interface PlanFacts {
  readonly outputName: string;
  readonly quantize: number;
  readonly keep: number;
  readonly cast: number;
  readonly remove: number;
  readonly inputBytes: number;
  readonly outputBytes: number;
  /** Relative error of the weights, about, from a few rows; null if rows cannot show it. */
  readonly expectedError: number | null;
  readonly method: string;
  readonly notes: readonly string[];
  readonly loras: readonly string[];
}

/** Events of a conversion, in this order; every event has a `type`. */
export type ConvertEvent =
  | {
    readonly type: "start";
    /** How many threads compute. */
    readonly workers: number;
    /** The GPU that takes part; null: none does. */
    readonly gpu: string | null;
    /** Name of the output. */
    readonly output: string;
    readonly plan: PlanFacts;
  }
  | {
    readonly type: "progress";
    readonly doneBytes: number;
    readonly totalBytes: number;
    /** Name of the tensor that was last begun. */
    readonly current: string;
  }
  /** A layer is quantized. */
  | {
    readonly type: "layer";
    readonly name: string;
    readonly relativeError: number;
    /** In dB; null: the layer is exact. */
    readonly sqnrDb: number | null;
  }
  /** Something a user should know, one sentence. */
  | { readonly type: "warning"; readonly message: string }
  /** The output is written, and is read once more to be checked. */
  | { readonly type: "verifying" }
  | { readonly type: "done"; readonly summary: Summary };

/** Result of a conversion. */
export interface Summary {
  readonly output: string;
  readonly elapsedMs: number;
  readonly inputBytes: number;
  readonly outputBytes: number;
  readonly layers: number;
  /** Of all weights together; null if nothing was quantized, or without any error. */
  readonly sqnrDb: number | null;
  readonly relativeError: number | null;
  /** The quality in a line; null if nothing was quantized. */
  readonly quality: string | null;
  /** Error of outputs on the calibration data; null without. */
  readonly outputError: number | null;
  /** Advice on the file in ComfyUI. */
  readonly next: string;
  /** Result of `verify`; null: not asked for. */
  readonly verified: Verdict | null;
  /** The page of `--report`; null: not asked for. */
  readonly reportHtml: string | null;
  /** The report as data, as `--report FILE.json` writes it; null: not asked for. */
  readonly report: unknown;
}

/** Result of `verify`. */
export interface Verdict {
  readonly loads: boolean;
  readonly matches: boolean;
  readonly problems: readonly Problem[];
  /** For people. */
  readonly lines: readonly string[];
}

/** Messages of the engine. */
export type EngineReport =
  | ThreadOrder
  | { readonly kind: "looked"; readonly look: Look }
  | { readonly kind: "event"; readonly event: ConvertEvent }
  | { readonly kind: "converted"; readonly result: StoreResult }
  | { readonly kind: "failed"; readonly name: string; readonly message: string };
