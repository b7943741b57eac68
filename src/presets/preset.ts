/** The types of the preset registry. Families are data; nothing here runs. */

import type { TensorInfo } from "../core/tensor.ts";

/** Which layers are candidates and which are kept. */
export type PresetChoice =
  /** Detect the family from the header; the official rule if none is known. */
  | { readonly kind: "auto" }
  /** No keep-list: every 2-D `*.weight` but embeddings and norms. */
  | { readonly kind: "none" }
  /** A family of the registry by its id. */
  | { readonly kind: "family"; readonly id: string }
  /** Documented preset flags (`--flux2`, ...), combined. */
  | { readonly kind: "documented"; readonly names: readonly string[] }
  /** The layers, groups and formats of an existing quantized file. */
  | { readonly kind: "like"; readonly path: string };

/** How much of a family is kept in the source dtype. `minimal` is the official rule. */
export type Tier = "minimal" | "balanced" | "conservative";

/** How a checkpoint of a family is recognised, by tensor names after the prefix is stripped. */
export interface DetectRule {
  /** Every key must be there: a full name, or the path of at least one name up to a dot. */
  readonly all?: readonly string[];
  /** At least one must be there. */
  readonly any?: readonly string[];
  /** None may be there. */
  readonly not?: readonly string[];
  /** `name[axis]` -> required size; all must hold. */
  readonly shape?: Readonly<Record<string, number>>;
  /** Look-alikes: the rule fails if all sizes of one entry hold. */
  readonly notShape?: readonly Readonly<Record<string, number>>[];
}

/** One model family. Patterns follow `pattern.ts`: whole path segments in sequence, `*` inside one. */
export interface Family {
  readonly id: string;
  /** Name for people. */
  readonly title: string;
  readonly detect: DetectRule;
  readonly keepBalanced: readonly string[];
  /** Kept in the conservative tier on top of `keepBalanced`. */
  readonly keepConservative?: readonly string[];
  /** First and last blocks kept in the conservative tier. */
  readonly edges?: Edges;
  /** First and last blocks kept in the balanced tier, too, if the official file keeps them. */
  readonly edgesBalanced?: Edges;
  /**
   * Expert banks that stock ComfyUI loads quantized: 3-D weights `[experts, rows, columns]`. Other 3-D
   * weights are read raw.
   */
  readonly banks?: readonly string[];
  /** Dropped from the output, in every tier. */
  readonly remove?: readonly string[];
  /** Set if stock ComfyUI has no quantized path: converting is refused with this sentence. */
  readonly refuse?: string;
  readonly notes?: string;
}

/** How many blocks at both ends of a stack are kept. */
export interface Edges {
  readonly first: number;
  readonly last: number;
}

/** A run of numbered blocks (`double_blocks.0` ... `double_blocks.18`) and its share of the model. */
export interface Stack {
  /** The path before the number, prefix stripped: `double_blocks`, `model.layers`. */
  readonly path: string;
  /** Smallest block number. */
  readonly firstIndex: number;
  /** Largest block number. */
  readonly lastIndex: number;
  /** Elements of its 2-D `*.weight` tensors. */
  readonly elements: number;
}

/** Kind of file, by its header. */
export interface Detection {
  /** Family id; null for LoRAs, diffusers layouts and unknown models. */
  readonly family: string | null;
  /** The prefix before the model's own names: `""`, `model.diffusion_model.`, `model.model.`, `net.`, ... */
  readonly prefix: string;
  /** Whose names the tensors have. */
  readonly layout: "native" | "diffusers" | "lora" | "unknown";
  /** The tensor names the decision rests on. */
  readonly evidence: readonly string[];
  /** The numbered stacks of blocks, largest first. */
  readonly stacks: readonly Stack[];
}

/** How an existing file quantized a layer; the plan copies it if the shape allows. */
export interface LayerRecipe {
  /** `format` of its `comfy_quant` marker. */
  readonly format: string;
  readonly convrotGroupSize: number | null;
  readonly scaling: "tensor" | "row" | "block";
  /** Tile or group size if `scaling` is `block`. */
  readonly blockSize?: number;
  /** The grid, if it is not that of INT8: a word of `--format`, and what the format leaves open. */
  readonly grid?: {
    readonly output: string;
    readonly groupSize: number;
    readonly linearDtype: "int4" | "int8";
    readonly codebook: "default" | "fit";
  };
}

/** Decision on one tensor, and its reason. */
export interface LayerDecision {
  readonly action: "quantize" | "keep" | "remove";
  /** A short reason for people: `keep-list "final_layer" of flux2`, `not 2-D`, ... */
  readonly reason: string;
  /** Only from `--like`: how the reference file quantized this layer. */
  readonly recipe?: LayerRecipe;
}

/** Decides for one tensor; pure. */
export type LayerRule = (tensor: TensorInfo) => LayerDecision;

/** A pattern of tensor names that is not a `RegExp`, such as one that cannot hang. */
export interface NamePattern {
  /** The pattern as it was written. */
  readonly source: string;
  /** Whether it is found in `name`. */
  test(name: string): boolean;
}
