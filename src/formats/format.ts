/** The idea of a format: one way to store the weight of a layer, in one file of this folder. */

import type { DType } from "../core/dtype.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { LayerRecipe } from "../presets/preset.ts";
import type { FloatScheme } from "../quant/float_grid.ts";
import type { LevelScheme } from "../quant/level_grid.ts";
import type { GridOutput } from "./outputs.ts";
import type { Scaling } from "../quant/scheme.ts";
import type { MatrixSource } from "./matrix_source.ts";
import type { Report } from "./problem.ts";

/** A weight with everything beside it that may belong to it: what a format is recognised by. */
export interface LayerTensors {
  /** `L`: the tensor names without their last part. */
  readonly layer: string;
  /** `L.weight`, or the tensor `L` itself; null if there is neither. */
  readonly weight: SourceTensor | null;
  /**
   * Companions by what their names add to that of the layer: `weight_scale`, `SCB`, `weight._data`. Those
   * of a parameter `P` without `.weight` may be named `P_scale`, and are `scale` here.
   */
  readonly parts: ReadonlyMap<string, SourceTensor>;
  readonly bias: SourceTensor | null;
  /** The marker, keys; null if there is none. */
  readonly marker: Readonly<Record<string, unknown>> | null;
  /** `format` of the marker; null if there is none. */
  readonly format: string | null;
  /** Size of the rotation groups that the marker names; null: it names none. */
  readonly convrotGroupSize: number | null;
  /** The shape of the weight in another file of the same model; null: no such file was given. */
  readonly knownShape: readonly number[] | null;
  /** Reads a tensor: for what its header leaves open. */
  bytesOf(tensor: SourceTensor): Uint8Array;
  /** The number in a companion that holds one integer; null if there is no such tensor. */
  integer(part: string): number | null;
}

/** Parts that a format recognises in a layer. */
export interface Recognised {
  /** The tensor with the codes. */
  readonly codes: SourceTensor;
  /** The scales of the weight, the finest if there are several. */
  readonly scale?: SourceTensor | undefined;
  /** Name of the restored weight, if it is not that of the codes. */
  readonly name?: string;
  /** Shape of the restored weight, if it is not that of the codes. */
  readonly shape?: readonly number[];
  /** Size of the rotation groups of the stored values, if they are rotated. */
  readonly convrotGroupSize?: number | null;
}

/** Why the values of a layer cannot be restored. */
export interface Refusal {
  /** The tensor that is in the way. */
  readonly tensor: string;
  /** As a sentence without its period. */
  readonly why: string;
  /** The file breaks a rule of the format; else it is whole, and this program cannot decode it. */
  readonly isBroken: boolean;
  /** Advice. */
  readonly hint?: string;
}

/** Facts that the rules of the loader use beside the layer. */
export interface LoaderContext {
  /** Whether a tensor `scaled_fp8` announces the FP8 layout of 2024. */
  readonly hasScaledFp8: boolean;
}

/** The scales that a weight is to be written with. */
export interface WrittenScales {
  readonly scaling: Scaling;
  readonly isRotated: boolean;
  readonly target: "comfyui" | "ctq";
}

/** The wanted format, by the words of `--format`, and its parameters. */
export interface AskedGrid {
  readonly output: GridOutput;
  /** Columns that share a scale, if the format leaves it open. */
  readonly groupSize: number;
  /** Dtype in which activations are multiplied, if the format leaves it open. */
  readonly linearDtype: "int4" | "int8";
  /** Whether the table of levels is the default one or fitted to each weight, if the format has a table. */
  readonly codebook: "default" | "fit";
}

/** Stored form of a weight on the format's own grid. */
export interface WrittenLayout {
  readonly codes: { readonly dtype: DType; readonly shape: readonly number[] };
  /** The tensors beside the codes: values that are made with them, or are known before. */
  readonly beside: readonly {
    readonly part: string;
    readonly dtype: DType;
    readonly shape: readonly number[];
    readonly content: "scales" | "choices" | "wholeScale" | ArrayBufferView;
  }[];
  /** Keys of the marker beside the format. */
  readonly marker: Readonly<Record<string, string | number | boolean>>;
}

/** How a format with a grid of its own is written. */
export interface GridWriter {
  readonly outputs: readonly GridOutput[];
  /**
   * The levels of a weight `[rows, cols]` that is rotated in groups of `rotation` columns, null if it is not; or
   * why the format cannot hold it.
   */
  levels(
    asked: AskedGrid,
    size: { readonly rows: number; readonly cols: number; readonly rotation: number | null },
  ): LevelScheme | FloatScheme | string;
  /** Whether weights are rotated, which is always or never. */
  readonly rotates: boolean;
  /** What must be installed besides {@link Format.stockSince}; absent or null: nothing. */
  needs?(grid: LevelScheme): string | null;
  /** Its tensors. */
  layout(
    grid: LevelScheme | FloatScheme,
    size: {
      readonly rows: number;
      readonly cols: number;
      readonly rotation: number | null;
      readonly linearDtype: AskedGrid["linearDtype"];
    },
  ): WrittenLayout;
}

/** Weights under one scale, by the words of options. */
export type NamedScaling = "tensor" | "row" | "block";

/** How a conversion writes a format. */
export interface FormatWriter {
  /** The loader that it is for, if it decides which of two formats with the same scales is written. */
  readonly target: "comfyui" | "ctq" | null;
  /** Whether weights may be rotated. */
  readonly rotates: boolean;
  /** Weights that a scale may stand for, as options name them; the first is meant if nothing is said. */
  readonly scalings: readonly NamedScaling[];
  /** Whether weights with such scales are written in this format. Exactly one says so. */
  holds(scales: WrittenScales): boolean;
  /** Shape of the F32 scales of a weight `[rows, cols]`. */
  scaleShape(
    scaling: Scaling,
    size: { readonly rows: number; readonly cols: number; readonly normalizeScales: boolean },
  ): number[];
}

/** One way to store the weight of a layer. */
export interface Format {
  /** Unique; for formats with a marker what the marker calls it. */
  readonly id: string;
  /** For people: `NF4 of bitsandbytes`. */
  readonly title: string;
  /** The first version of ComfyUI with it in its table, by ComfyUI's own history; absent: none has it. */
  readonly stockSince?: string;
  /** GPUs that multiply in it, what others do, and the versions that it needs, for people; absent: no loader has it. */
  readonly runsOn?: string;
  /**
   * Names of the companions that it knows, as in {@link LayerTensors.parts}. A companion that is not among
   * them, and is no scale of activations, contradicts the format. Absent: it takes any.
   */
  readonly parts?: readonly string[];
  /** The layer in these tensors; null: it is stored in another way. Exactly one format claims a layer. */
  recognise(layer: LayerTensors): Recognised | null;
  /** How the values are decoded, or why that cannot be done. Files are numbered as in the model. */
  decode(layer: LayerTensors, found: Recognised): MatrixSource | Refusal;
  /** Reports the rules of the stock loader that the layer breaks. */
  problems(
    report: Report,
    layer: LayerTensors,
    found: Recognised,
    context: LoaderContext,
  ): void;
  /** Name of a layer in counts, before and after the word "layers". Default: the id. */
  words?(layer: LayerTensors, found: Recognised): readonly [before: string, after: string];
  /** How a conversion writes a layer in the same way; null or absent: it has no recipe for it. */
  recipe?(layer: LayerTensors, found: Recognised): LayerRecipe | null;
  /** How a conversion writes it; absent: it is only read. */
  readonly write?: FormatWriter;
  /** The same for a format that is no INT8. */
  readonly writeGrid?: GridWriter;
  /**
   * The marker with which stock ComfyUI computes exactly the values of `matrix` from its codes and F32 scales;
   * null if this format does not hold them.
   */
  states?(matrix: MatrixSource): Readonly<Record<string, unknown>> | null;
}

/** Whether what {@link Format.decode} returned says that it cannot be done. */
export function isRefusal(decoded: MatrixSource | Refusal): decoded is Refusal {
  return "why" in decoded;
}

/** A rule of the format that the file breaks. */
export function broken({ name }: SourceTensor, why: string): Refusal {
  return { tensor: name, why, isBroken: true };
}

/** Values that are whole and cannot be decoded here. */
export function unreadable({ name }: SourceTensor, why: string, hint?: string): Refusal {
  return { tensor: name, why, isBroken: false, ...(hint === undefined ? {} : { hint }) };
}
