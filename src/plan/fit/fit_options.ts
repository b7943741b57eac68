/** What `--fit` asks for, and which formats it may choose from. */

import { OUTPUTS, type WeightOutput } from "../../formats/outputs.ts";

/** What a layer may become: `bf16` keeps it in the dtype of the source. */
export type FitFormat = "bf16" | Exclude<WeightOutput, "fp16">;

/** The words of `--fit-formats`. */
export const FIT_FORMATS: readonly FitFormat[] = Object.freeze([
  "bf16",
  ...OUTPUTS.filter((output): output is Exclude<WeightOutput, "fp16"> => output !== "fp16"),
]);

/** A size to be reached: of the whole output, or a share of the input's. */
export type FitSize = { readonly bytes: number } | { readonly share: number };
