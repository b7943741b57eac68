/**
 * SmoothQuant in a conversion. For stock ComfyUI, which applies no factors, they are folded into what makes
 * the inputs (`presets/fold_graph.ts`): norms are divided by them, or rows of the linear layer before. For
 * `--target ctq` they are stored beside every weight. Layers without a known producer stay as they are; what
 * is known of their inputs steers the rounding as it does without SmoothQuant.
 *
 * One more reading of the weights concerned, for the magnitudes of their columns.
 */

import { bytesOf } from "../core/bytes.ts";
import { bf16ToF32, type DType, f16ToF32, f32ToBf16, f32ToF16 } from "../core/dtype.ts";
import type { SourceTensor } from "../core/tensor.ts";
import { type FoldGroup, foldGroups } from "../presets/fold_graph.ts";
import { mostOf, smoothingFactors } from "../quant/smoothing.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { TensorReader } from "../safetensors/reader.ts";
import type {
  Calibration,
  LayerFields,
  LayerStatistic,
  LoraDirections,
} from "../calibration/calibration.ts";
import type { Plan } from "../plan/plan.ts";
import type { Prepared } from "./prepare.ts";
import { SMOOTH_FACTORS } from "../formats/int8_layer.ts";
import { magnitudesOf } from "./smoothing_maxima.ts";
import type { PoolRun, WorkerPool } from "../run/workers/worker_pool.ts";

/** Changes of SmoothQuant to a model. */
export interface Smoothing {
  /** Factors of the columns of weights, by which their inputs are divided: f32 `[K]` by weight name. */
  readonly columns: ReadonlyMap<string, Float32Array>;
  /** Factors of the rows of weights: f32 `[N]` by weight name. */
  readonly rows: ReadonlyMap<string, Float32Array>;
  /** New bytes of whole tensors: norms, factors that are stored. */
  readonly replaced: ReadonlyMap<string, Uint8Array>;
  /** For people, one sentence each. */
  readonly notes: readonly string[];
}

/** A group, or a single weight whose factors are stored. */
interface SmoothGroup {
  readonly producer: FoldGroup["producer"] | null;
  readonly consumers: readonly string[];
}

/**
 * Returns the factors of a conversion. Reads the weights concerned once, on the workers.
 *
 * @param alpha 0 to 1: see `quant/smoothing.ts`.
 */
export async function findSmoothing(
  prepared: Prepared,
  plan: Plan,
  { alpha, pool, run }: {
    alpha: number;
    pool: WorkerPool;
    run: Pick<PoolRun, "signal" | "onProgress">;
  },
): Promise<Smoothing> {
  const isStored = plan.target === "ctq";
  const groups = isStored ? storedGroups(plan) : foldableGroups(plan);
  const names = groups.flatMap(({ consumers }) => consumers);
  const magnitudes = await magnitudesOf(prepared, names, { pool, run });
  const factors = factorsOf(groups, magnitudes, { model: prepared.model, alpha, isStored });
  const { columns, rows, replaced } = factors;
  return { columns, rows, replaced, notes: notesOf(factors, { groups, plan, prepared }) };
}

/** The factors of groups, and what came of them. */
interface GroupFactors extends Omit<Smoothing, "notes"> {
  /** Norms that they are folded into. */
  readonly norms: number;
  /** Groups of which nothing is known of the inputs. */
  readonly blind: number;
}

function factorsOf(
  groups: readonly SmoothGroup[],
  { weights, inputs }: Awaited<ReturnType<typeof magnitudesOf>>,
  { model, alpha, isStored }: { model: ModelSource; alpha: number; isStored: boolean },
): GroupFactors {
  const tensors = new Map(model.tensors.map((tensor) => [tensor.name, tensor]));
  using reader = new TensorReader(model);
  const columns = new Map<string, Float32Array>(), rows = new Map<string, Float32Array>();
  const replaced = new Map<string, Uint8Array>();
  let norms = 0, blind = 0;
  for (const { producer, consumers } of groups) {
    const known = consumers.flatMap((name) => inputs.get(name) ?? []);
    if (known.length === 0) blind++;
    const weightMax = mostOf(consumers.map((name) => weights.get(name)!));
    const inputMax = known.length === 0 ? weightMax.map(() => 1) : mostOf(known);
    let factors = smoothingFactors(inputMax, weightMax, { alpha, powersOfTwo: !isStored });
    if (producer === null) {
      const name = consumers[0]!.replace(/weight$/, SMOOTH_FACTORS);
      replaced.set(name, new Uint8Array(factors.slice().buffer));
    } else if (producer.kind === "rows") {
      rows.set(producer.name, shared(factors.map((s) => 1 / s)));
    } else {
      const tensor = tensors.get(producer.name)!;
      const norm = dividedNorm(reader.read(tensor), tensor, factors, producer.addsOne);
      replaced.set(producer.name, norm.bytes);
      factors = norm.factors;
      norms++;
    }
    for (const name of consumers) columns.set(name, shared(factors));
  }
  return { columns, rows, replaced, norms, blind };
}

function notesOf(
  { columns, rows, norms, blind }: GroupFactors,
  { groups, plan, prepared }: { groups: readonly SmoothGroup[]; plan: Plan; prepared: Prepared },
): string[] {
  const where = plan.target === "ctq"
    ? `stored as ${SMOOTH_FACTORS} of ${columns.size} layers`
    : `folded into ${norms} norms and ${rows.size} linear layers, for the ${columns.size} layers that ` +
      "they feed";
  const notes = [`SmoothQuant: factors ${where}`];
  const others = plan.totals.quantize - columns.size;
  if (others > 0) {
    notes.push(
      `SmoothQuant: what feeds the other ${others} layers is not known: they stay in original space`,
    );
  }
  if (blind > 0) {
    notes.push(
      `SmoothQuant: ${blind} of ${groups.length} factors are by the weights alone, as nothing is known of ` +
        "their inputs",
    );
  }
  if (prepared.calibration?.isSynthetic === true) {
    notes.push("SmoothQuant: the calibration data is synthetic and says nothing about real inputs");
  }
  return notes;
}

/** Every quantized weight on its own. */
function storedGroups(plan: Plan): SmoothGroup[] {
  return plan.tensors.filter(({ action, source }) =>
    action === "quantize" && source.shape.length === 2
  )
    .map(({ source }) => ({ producer: null, consumers: [source.name] }));
}

/** The groups all of whose weights are quantized, and whose norm is kept as it is. */
function foldableGroups(plan: Plan): SmoothGroup[] {
  const fates = new Map(plan.tensors.map((tensor) => [tensor.source.name, tensor]));
  const shapes = new Map(plan.tensors.map(({ source }) => [source.name, source.shape]));
  const isQuantized = (name: string) => fates.get(name)?.action === "quantize";
  return foldGroups(shapes).filter(({ producer, consumers }) => {
    if (!consumers.every(isQuantized)) return false;
    if (producer.kind === "rows") return isQuantized(producer.name);
    const norm = fates.get(producer.name)!;
    return norm.action === "keep" && NORM_DTYPES.includes(norm.source.dtype);
  });
}

const NORM_DTYPES: readonly DType[] = ["F32", "F16", "BF16"];

/**
 * Divides the weight of a norm, in its dtype. Returns the factors that this amounts to: those asked for, but
 * if 1 + w is what multiplies, and dividing it is rounded.
 */
export function dividedNorm(
  bytes: Uint8Array<ArrayBuffer>,
  { dtype }: Pick<SourceTensor, "dtype">,
  factors: Float32Array,
  addsOne: boolean,
): { bytes: Uint8Array; factors: Float32Array } {
  const one = addsOne ? 1 : 0;
  const values = dtype === "F32" ? new Float32Array(bytes.buffer) : new Uint16Array(bytes.buffer);
  const read = (bits: number) =>
    dtype === "F32" ? bits : dtype === "BF16" ? bf16ToF32(bits) : f16ToF32(bits);
  const write = (value: number) =>
    dtype === "F32" ? Math.fround(value) : dtype === "BF16" ? f32ToBf16(value) : f32ToF16(value);
  const out = values.slice(), real = factors.slice();
  values.forEach((bits, k) => {
    const before = one + read(bits);
    out[k] = write(before / factors[k]! - one);
    const after = one + read(out[k]!);
    if (after !== 0 && before !== 0 && Number.isFinite(after)) real[k] = before / after;
    else {
      out[k] = bits; // a channel that is off, or whose share the dtype cannot hold, stays
      real[k] = 1;
    }
  });
  return { bytes: bytesOf(out), factors: real };
}

/** A copy that all workers see. */
function shared(values: Float32Array): Float32Array {
  const copy = new Float32Array(new SharedArrayBuffer(4 * values.length));
  copy.set(values);
  return copy;
}

/**
 * Returns `prepared` with the weights and inputs of smoothed layers multiplied by their factors, wherever
 * they are read.
 */
export function smoothed(prepared: Prepared, { columns, rows, replaced }: Smoothing): Prepared {
  const inverse = new Map(
    [...columns].map(([name, factors]) => [name, shared(factors.map((s) => 1 / s))] as const),
  );
  const withFactors = (name: string, statistic: LayerStatistic): LayerStatistic => {
    const factors = inverse.get(name);
    return factors === undefined
      ? statistic
      : { ...statistic, data: { ...statistic.data, factors } };
  };
  return {
    ...prepared,
    replaced,
    matrixOf: (source) => {
      const columnFactors = columns.get(source.name), rowFactors = rows.get(source.name);
      return {
        ...prepared.matrixOf(source),
        ...(columnFactors === undefined ? {} : { columnFactors }),
        ...(rowFactors === undefined ? {} : { rowFactors }),
      };
    },
    compensationOf: (source) => {
      const found = prepared.compensationOf(source), factors = columns.get(source.name);
      if (found === null || factors === undefined) return found;
      const { data } = withFactors(source.name, found);
      return { ...found, data, directions: towards(found.directions, factors) };
    },
    calibration: prepared.calibration === null
      ? null
      : smoothedCalibration(prepared.calibration, withFactors),
  };
}

/** A LoRA reads a·x = (a s)·(x / s). */
function towards(directions: LoraDirections | null, factors: Float32Array): LoraDirections | null {
  if (directions === null) return null;
  const values = shared(directions.values);
  for (let i = 0; i < values.length; i++) values[i] = values[i]! * factors[i % factors.length]!;
  return { ...directions, values };
}

function smoothedCalibration(
  calibration: Calibration,
  withFactors: (name: string, statistic: LayerStatistic) => LayerStatistic,
): Calibration {
  const layers = [...calibration.layers].map(([layer, statistic]) =>
    [layer, withFactors(`${layer}.weight`, statistic)] as const
  );
  const fields = [...calibration.fields].map(([layer, known]) => {
    const entries = Object.entries(known).map(([field, statistic]) => [
      field,
      // A scale is one number for all channels; it is not that of smoothed inputs.
      field === "input_scale" ? statistic : withFactors(`${layer}.weight`, statistic),
    ]);
    return [layer, Object.fromEntries(entries) as LayerFields] as const;
  });
  return { ...calibration, layers: new Map(layers), fields: new Map(fields) };
}
