/** Plans a conversion, with formats chosen for a size or an error if that is asked for. */

import { waitingSteps } from "../waiting_steps.ts";
import type { ConvertOptions } from "../../plan/options.ts";
import { openModel } from "../../safetensors/reader.ts";
import type { ModelSource } from "../../safetensors/model_source.ts";
import { prepare, type Prepared } from "../prepare.ts";
import { isFitted } from "../../quant/level_grid.ts";
import type { FitResult } from "./fit_formats.ts";

/** A model with its plan, and how its formats were chosen. */
export interface FittedModel extends Prepared {
  /** The formats that were chosen for a size or an error; null: none was asked for. */
  readonly fit: FitResult | null;
}

/**
 * Opens `source` and plans its conversion, as `prepare` does. Milliseconds, unless formats are to be chosen: then a
 * sample of every layer is measured first.
 *
 * @param how as `prepare` takes it.
 * @throws what `prepare` and `fitFormats` throw.
 */
export async function prepareFitted(
  source: string | ModelSource,
  options: ConvertOptions,
  how: { readonly dryRun?: boolean } = {},
): Promise<FittedModel> {
  const fitted = await chosen(source, options, how);
  // A dry run shows formats and sizes, which tables do not change.
  const hasTables = fitted.plan.tensors.some(({ scheme }) => isFitted(scheme?.levels));
  if (how.dryRun === true || !hasTables) return fitted;
  const { withFittedCodebooks } = await waitingSteps().fitCodebooks();
  return withFittedCodebooks(fitted);
}

async function chosen(
  source: string | ModelSource,
  options: ConvertOptions,
  how: { readonly dryRun?: boolean },
): Promise<FittedModel> {
  if (options.fit === null && options.maxError === null) {
    return { ...prepare(source, options, how), fit: null };
  }
  const { fitFormats, fitNotes } = await waitingSteps().fitFormats();
  const model = openModel(source);
  const again = (options: ConvertOptions) => prepare(model, options, how);
  const base = again({ ...options, fit: null, maxError: null });
  const { options: own, result } = fitFormats(base, options, again);
  const fitted = again(own);
  return { ...fitted, fit: result, notes: [...fitted.notes, ...fitNotes(result)] };
}
