/** The types of the preset registry. Families are data; nothing here runs. */

import type { TensorInfo } from "../core/tensor.ts";

/** How a checkpoint of a family is recognised, by tensor names after the prefix is stripped. */
export interface DetectRule {
  /** Every key must be there (a full name, or a prefix of names up to a dot). */
  readonly all?: readonly string[];
  /** At least one must be there. */
  readonly any?: readonly string[];
  /** None may be there. */
  readonly not?: readonly string[];
  /** `name[axis]` -> required size. */
  readonly shape?: Readonly<Record<string, number>>;
}

/** One model family. Patterns are matched on whole path segments, in sequence. */
export interface Family {
  readonly id: string;
  /** What a person calls it. */
  readonly title: string;
  readonly detect: DetectRule;
  readonly keepBalanced: readonly string[];
  /** Kept in the conservative tier on top of `keepBalanced`. */
  readonly keepConservative?: readonly string[];
  /** First and last blocks kept in the conservative tier. */
  readonly edges?: { readonly first: number; readonly last: number };
  /** Dropped from the output. */
  readonly remove?: readonly string[];
  /** Set where stock ComfyUI has no quantized path: converting is refused with this sentence. */
  readonly refuse?: string;
  readonly notes?: string;
}

/** What the header says the file is. */
export interface Detection {
  /** Family id; null for LoRAs, diffusers layouts and unknown models. */
  readonly family: string | null;
  /** The prefix before the model's own names: `""`, `model.diffusion_model.`, `model.model.`, `net.`, ... */
  readonly prefix: string;
  readonly layout: "native" | "diffusers" | "lora" | "unknown";
  /** The tensor names the decision rests on. */
  readonly evidence: readonly string[];
}

/** What to do with one tensor, and why. */
export interface LayerDecision {
  readonly action: "quantize" | "keep" | "remove";
  /** A short reason for people: `keep-list "final_layer" of flux2`, `not 2-D`, ... */
  readonly reason: string;
}

/** Decides for one tensor; pure. */
export type LayerRule = (tensor: TensorInfo) => LayerDecision;
