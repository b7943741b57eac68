/** Notes of workers on layers, as data: nobody has to read sentences to learn what became of it. */

import type { LearnedReport } from "../quant/learned/report.ts";

/** Work of the method on a layer. Crosses threads and journals: plain JSON. */
export type Note =
  | CompensatedNote
  | {
    /** Rounded to nearest in spite of its data. */
    readonly kind: "fallback";
    /** Why, as the end of a sentence. */
    readonly reason: string;
  }
  /** Stored transformed, and rounded to nearest as there is no data. */
  | { readonly kind: "transformed" }
  /** Codes were learned. */
  | { readonly kind: "learned"; readonly report: LearnedReport };

/** Errors were compensated. */
export interface CompensatedNote {
  /** Kind of the note. */
  readonly kind: "compensated";
  /** Plain, held to the weight error of rounding to nearest, or stored transformed. */
  readonly manner: "gptq" | "guardedQuip" | "transformedQuip";
  /** The known inputs. */
  readonly statistic: "activations" | "hessian" | "channels" | "lora";
  /** LoRA directions that steered it; null: none did. */
  readonly directions: number | null;
  /** Share of the mean diagonal that was added to the Hessian. */
  readonly damping: number | null;
  /** Whether it was given less damping, which did not do. */
  readonly dampingRaised: boolean;
  /** Parts of the columns that were compensated separately. */
  readonly segments: number;
  /** Channels that no input ever used. */
  readonly deadChannels: number;
  /** Whether it was rounded in the space of its calibration rows. */
  readonly inRowSpace: boolean;
  /** Of a bank that was compensated expert by expert: how many were, and how many there are. */
  readonly experts?: { readonly compensated: number; readonly all: number };
}
