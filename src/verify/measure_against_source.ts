/** Errors of the outputs of a finished file against its source, for inputs of calibration data. */

import { layerName } from "../core/layer_name.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import type { Calibration } from "../calibration/calibration.ts";
import {
  isMeasurable,
  type Measurement,
  quantizedByWeight,
  runMeasures,
} from "../convert/finish_layers.ts";
import { type Holdout, measuringInputs } from "../calibration/layer_inputs.ts";
import type { OutputErrors } from "../convert/output_errors.ts";
import { storedMatrix, tensorsByName } from "../formats/stored_matrix.ts";
import type { VerifyOptions } from "./verify.ts";
import type { WorkerPool } from "../run/workers/worker_pool.ts";

/**
 * Returns the errors of all layers of `names` that the data has inputs or a Hessian of, by name of the
 * weight.
 *
 * @param options.holdout only the rows that a conversion holds out are used; 0: all.
 */
export async function measureAgainstSource(
  stored: ModelSource,
  source: ModelSource,
  { names, calibration, holdout, pool, ...options }: VerifyOptions & {
    readonly names: readonly string[];
    readonly calibration: Calibration;
    readonly holdout: Holdout;
    readonly pool: WorkerPool;
  },
): Promise<ReadonlyMap<string, OutputErrors>> {
  const ours = tensorsByName(stored), theirs = tensorsByName(source);
  const layers = quantizedByWeight(stored), sourceLayers = quantizedByWeight(source);
  const fileOffset = stored.paths.length, inputsOffset = fileOffset + source.paths.length;
  const measures = names.flatMap((name): Measurement[] => {
    const inputsName = layerName(name);
    const found = measuringInputs(calibration, inputsName, { fileOffset: inputsOffset, holdout });
    const layer = layers.get(name);
    if (found === null || layer === undefined) return [];
    const own = storedMatrix(stored, ours.get(name)!, layer);
    const reference = storedMatrix(source, theirs.get(name)!, sourceLayers.get(name) ?? null, {
      fileOffset,
    });
    if (!isMeasurable(own, found.inputs) || reference.cols !== own.cols) return [];
    const [before, after] = [theirs.get(`${inputsName}.bias`), ours.get(`${inputsName}.bias`)];
    const bias = before === undefined || after === undefined || before.shape.length !== 1 ||
        after.shape.length !== 1 || before.shape[0] !== own.rows || after.shape[0] !== own.rows
      ? null
      : {
        reference: storedMatrix(source, before, null, { fileOffset }),
        stored: storedMatrix(stored, after, null),
      };
    const { inputs } = found;
    // The data that the file was fitted to is not known here.
    const on = found.on === "calibration rows" ? "given rows" : found.on;
    return [{ on, task: { kind: "measure", name, reference, stored: own, bias, inputs } }];
  });
  const inputPaths = [...stored.paths, ...source.paths, ...calibration.paths];
  return new Map(await runMeasures(pool, measures, { ...options, inputPaths }));
}
