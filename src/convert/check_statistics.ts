/**
 * Looks for numbers that are none in calibration data, before any work: held-out rows, means and scales are
 * needed only after the weights are done. All of it is read once, by the workers, in parts.
 */

import { layerName } from "../core/layer_name.ts";
import { FormatError } from "../core/errors.ts";
import { decodeFloats } from "../lora/decode_floats.ts";
import { readRange } from "../safetensors/reader.ts";
import type { Calibration, LayerStatistic } from "../calibration/calibration.ts";
import type { Plan } from "../plan/plan.ts";
import type { Prepared } from "./prepare.ts";
import { elementBytes, type ScanTask } from "../run/tasks.ts";
import type { PoolRun, WorkerPool } from "../run/workers/worker_pool.ts";
import { nonFiniteOf } from "../run/layer_statistics.ts";

/** Fields of a layer in a file, by their names there. */
interface Named {
  readonly name: string;
  readonly field: string;
  readonly statistic: LayerStatistic;
}

/**
 * Checks what `prepared` knows of the inputs of layers that `plan` quantizes.
 *
 * @param staticActivations whether scales of inputs are used.
 * @throws FormatError naming file, tensor and place of the first NaN, infinity, negative maximum, or scale
 * that is not above 0.
 */
export async function checkStatistics(
  { calibration, inputsOptions, inputPaths }: Prepared,
  plan: Pick<Plan, "outputs">,
  { pool, signal, staticActivations }: {
    pool: WorkerPool;
    signal: PoolRun["signal"];
    staticActivations: boolean;
  },
): Promise<void> {
  if (calibration === null) return;
  const statistics = statisticsOf(calibration, plan)
    .filter(({ field }) => field !== "input_scale" || staticActivations);
  const scans: { named: Named; task: ScanTask }[] = [];
  for (const named of statistics) {
    const { data, rows, cols } = named.statistic;
    if (data.kind === "inline") {
      const bad = data.values.findIndex((value) => !Number.isFinite(value));
      if (bad >= 0) refuse(named, bad, data.values[bad]!, FINITE);
    } else {
      const plain = { scale: null, convrotGroupSize: null, name: named.name, rows, cols };
      const source = { ...plain, ...data, file: data.file + inputsOptions.fileOffset };
      scans.push({
        named,
        task: { kind: "scan", name: named.name, source, limit: Infinity },
      });
    }
  }
  const tasks = scans.map(({ task }) => task);
  const numbers = tasks.length === 0
    ? []
    : await pool.run({ inputPaths, outputs: [], tasks, signal });
  scans.forEach(({ named }, index) => {
    const { count, first } = nonFiniteOf("scan", numbers[index]!);
    if (count === 0) return;
    const [value = NaN] = valuesOf(calibration, named.statistic, first, 1);
    refuse(named, first, value, FINITE);
  });
  for (const named of statistics) {
    const { field, statistic } = named;
    const isScale = field === "input_scale";
    if (!isScale && field !== "channel_max") continue;
    const values = valuesOf(calibration, statistic, 0, statistic.cols);
    const bad = values.findIndex((value) => isScale ? !(value > 0) : value < 0);
    if (bad >= 0) refuse(named, bad, values[bad]!, isScale ? "a number above 0" : "0 or more");
  }
}

const FINITE = "a finite number";

function statisticsOf({ fields }: Calibration, { outputs }: Pick<Plan, "outputs">): Named[] {
  return outputs.flatMap(({ content }) => {
    if (content.kind !== "codes") return [];
    const layer = layerName(content.source.name);
    return Object.entries(fields.get(layer) ?? {}).map(([field, statistic]) => ({
      name: `${layer}.${field}`,
      field,
      statistic,
    }));
  });
}

/** Some values of a statistic, by flat index. */
function valuesOf(
  { paths }: Calibration,
  { data }: LayerStatistic,
  first: number,
  count: number,
): Float32Array {
  if (data.kind === "inline") return data.values.subarray(first, first + count);
  const size = elementBytes(data.dtype);
  const bytes = readRange(paths[data.file]!, data.offsetBytes + first * size, count * size);
  return decodeFloats({ name: "", dtype: data.dtype, shape: [count], data: bytes });
}

function refuse(
  { name, field, statistic: { statistic, cols, data } }: Named,
  index: number,
  value: number,
  needed: string,
): never {
  const place = field === "input_scale"
    ? ""
    : statistic === "channels"
    ? `[${index}]`
    : `[${Math.floor(index / cols)}, ${index % cols}]`;
  throw new FormatError(`${field}${place} is ${value}, needs ${needed}`, {
    path: data.path,
    tensor: name,
    hint: "calibrate again, or take the layer out of the file",
  });
}
