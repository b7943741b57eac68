/** One adapted layer of a LoRA file: its kind, its tensors by role, its alpha. */

import type { TensorInfo } from "../core/tensor.ts";

/** How a module's tensors make the change of a weight. */
export type LoraKind =
  /** `B · A` (LoRA; LoCon on convolutions, with or without a middle factor). */
  | "lora"
  /** `(w1_a · w1_b) ⊙ (w2_a · w2_b)` (LyCORIS). */
  | "loha"
  /** `w1 ⊗ w2`, either of them perhaps a product (LyCORIS). */
  | "lokr"
  /** The change itself. */
  | "diff";

/** Role of a tensor in its module. */
export type LoraRole =
  | "down"
  | "up"
  | "mid"
  | "upBias"
  | "alpha"
  | "magnitude"
  | "diff"
  | "diffBias"
  | "w1"
  | "w1a"
  | "w1b"
  | "w2"
  | "w2a"
  | "w2b";

/** Origin of the factor before the product. */
export type AlphaSource =
  /** A tensor of the module; its value is read later. */
  | { readonly kind: "tensor"; readonly name: string }
  /** The file's metadata. */
  | { readonly kind: "metadata"; readonly key: string; readonly value: number }
  /** Nowhere: alpha is the rank, so the factor is 1. */
  | { readonly kind: "rank" };

/** One adapted layer. */
export interface LoraModule {
  /** The layer as the file names it, with the prefixes. */
  readonly key: string;
  readonly kind: LoraKind;
  readonly tensors: Readonly<Partial<Record<LoraRole, TensorInfo>>>;
  readonly alpha: AlphaSource;
  /** Whether the factor is `alpha / sqrt(rank)` instead of `alpha / rank`. */
  readonly rankStabilized: boolean;
  /** Size of the inner dimension; null if there is none (`diff`, undecomposed LoKr). */
  readonly rank: number | null;
  /** Rows and columns of the change, convolutions flattened; 0 x 0 if only a bias changes. */
  readonly rows: number;
  readonly cols: number;
  /** Whether the rows get learned norms (DoRA). */
  readonly dora: boolean;
}

/** Fault of a module of a LoRA file. */
export interface LoraProblem {
  /** The layer as the file names it; null if the file as a whole is meant. */
  readonly module: string | null;
  /** The tensor or metadata key that shows it; null if none does. */
  readonly tensor: string | null;
  /** A sentence without a period. */
  readonly message: string;
  /** The file keeps its rules, but this program has no way to merge this. */
  readonly unsupported: boolean;
}

/** The contents of a LoRA file, by layer. */
export interface ParsedLora {
  readonly modules: readonly LoraModule[];
  /** Nothing of the file should be merged while there are any. */
  readonly problems: readonly LoraProblem[];
  /** Tensors that belong to no adapter of a kind that is known. */
  readonly unknown: readonly string[];
}

/** Returns the factor before the product: `alpha / rank`, or 1 if the module has no rank. */
export function scalingOf(
  module: Pick<LoraModule, "rank" | "rankStabilized">,
  alpha: number | null,
): number {
  if (alpha === null || module.rank === null) return 1;
  return alpha / (module.rankStabilized ? Math.sqrt(module.rank) : module.rank);
}
