/**
 * How LoRA files and models spell the same layer: the form of the tables that `key_map.ts` reads. A row
 * says that a layer which one side calls `native` is called `alias` by the other; every row is read both
 * ways, so a LoRA in native names also fits a model in the alias's layout.
 *
 * In a name `{i}` stands for a number, the same on both sides in order of appearance; `{*}` for the
 * rest of the name.
 */

/** The rows of a fused weight, as fractions of it that other layouts store as separate layers. */
export type FusedLayout =
  /** query (as many rows as the weight has columns), then key and value in equal shares. */
  | "qkv"
  /** query, key, value (each as many rows as columns), then the MLP's input projection. */
  | "qkvMlp";

/** A fused weight and the names of its parts, top to bottom. */
export interface FusedRow {
  readonly native: string;
  readonly layout: FusedLayout;
  readonly parts: readonly string[];
}

/** The names of one model family in two layouts. */
export interface NamingTable {
  readonly id: string;
  /** The table acts on models with a name that begins with one of these. */
  readonly models: readonly string[];
  /** `[native, alias]`: the same matrix under another name. */
  readonly renamed: readonly (readonly [string, string])[];
  readonly fused: readonly FusedRow[];
  /**
   * `[native, alias]` if the halves trade places: the native layer computes (shift, scale), the
   * alias (scale, shift).
   */
  readonly swapped: readonly (readonly [string, string])[];
  /** `[native, alias]` swapped as above if the weight has two rows per column, else plainly renamed. */
  readonly swappedIfPair?: readonly (readonly [string, string])[];
}
