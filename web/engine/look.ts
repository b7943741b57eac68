/** A look at a model and its plan: headers only, so that a page answers at once. */

import { inspectModel } from "../../src/convert/inspect.ts";
import { prepare } from "../../src/convert/prepare.ts";
import { resolveOptions } from "../../src/plan/resolve_options.ts";
import { openModel, TensorReader } from "../../src/safetensors/reader.ts";
import { planFacts } from "./plan_facts.ts";
import { sampleError } from "./sample_error.ts";
import type { Job, Look } from "./protocol.ts";

/**
 * Returns what is in the model of `job`, and the plan.
 *
 * @throws FormatError if it is no safetensors file, or a broken one.
 */
export function look({ model: path, options: given }: Job): Look {
  const model = openModel(path);
  using reader = new TensorReader(model);
  const { tensors, parameters, fileBytes, dtypes, quantized, explanation, detection } =
    inspectModel(model, (tensor) => reader.read(tensor));
  const facts = {
    tensors,
    parameters,
    fileBytes,
    dtypes,
    quantized,
    explanation,
    family: detection.family,
  };
  try {
    const options = resolveOptions(given, { what: "quantsmith.convert" });
    const { plan, notes, loras } = prepare(model, options);
    const shown = planFacts(plan, {
      model: path,
      options,
      notes,
      loras,
      outputName: null,
      expectedError: sampleError(model, plan, options),
    });
    return { ...facts, plan: shown, refusal: null };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return { ...facts, plan: null, refusal: error.message };
  }
}
