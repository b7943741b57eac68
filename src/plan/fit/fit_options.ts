/** What `--fit` asks for, and which formats it may choose from. */

import { LEVEL_OUTPUTS, type LevelOutput } from "../../formats/outputs.ts";

/** What a layer may become: `bf16` keeps it in the dtype of the source. */
export type FitFormat = "bf16" | "int8" | LevelOutput;

/** The words of `--fit-formats`. */
export const FIT_FORMATS: readonly FitFormat[] = Object.freeze(["bf16", "int8", ...LEVEL_OUTPUTS]);

/** A size to be reached: of the whole output, or a share of the input's. */
export type FitSize = { readonly bytes: number } | { readonly share: number };
