/**
 * The manifest of a part: how it was made, the files that all parts make together, and the checksums of
 * every tensor. It is written after the part, so a part without one is not finished.
 */

import { basename } from "node:path";
import { FormatError } from "../../core/errors.ts";
import type { Plan, PlannedTensor } from "../../plan/plan.ts";
import { storedBytes } from "../../plan/stored_bytes.ts";
import type { Scheme } from "../../quant/scheme.ts";
import { type CheckedRange, readTextIfThere } from "../../safetensors/part_files.ts";
import { writeSideFile } from "../../safetensors/side_file.ts";
import type { LayerResult } from "../layer_result.ts";
import type { Fingerprint } from "../resume/fingerprint.ts";
import type { Part } from "./part.ts";

/** Changes with the form of what follows. */
const FORMAT = 2;

/** A tensor of a part: where it lies in its file, and its checksums. */
export interface PartTensor extends CheckedRange {
  readonly name: string;
}

/** A file of the whole output. */
export interface WholeFile {
  /** Length and JSON, in base64. */
  readonly header: string;
  readonly totalBytes: number;
}

/** A tensor of the input in the plan of a part, as far as reports name it. */
export interface PartPlanned {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly action: PlannedTensor["action"];
  readonly reason: string;
  /** Null unless it is quantized. */
  readonly scheme: PlannedScheme | null;
  /** Bytes of its codes and scales; null unless it is quantized. */
  readonly storedBytes: number | null;
}

/** A scheme, as far as reports name it. */
export interface PlannedScheme {
  readonly format: Scheme["format"];
  readonly scaling: Pick<Scheme["scaling"], "kind">;
  readonly convrotGroupSize: Scheme["convrotGroupSize"];
  readonly method: Scheme["method"];
}

/** Returns what a manifest says of the tensors of a plan. */
export function plannedOf(plan: Pick<Plan, "tensors" | "outputs">): PartPlanned[] {
  const bytes = storedBytes(plan);
  return plan.tensors.map((
    { source: { name, dtype, shape, byteLength }, action, reason, scheme },
  ) => ({
    name,
    dtype,
    shape,
    byteLength,
    action,
    reason,
    scheme: scheme === null ? null : {
      format: scheme.format,
      scaling: { kind: scheme.scaling.kind },
      convrotGroupSize: scheme.convrotGroupSize,
      method: scheme.method,
    },
    storedBytes: bytes.get(name) ?? null,
  }));
}

/** The statements about a part. */
export interface Manifest extends Part {
  readonly format: number;
  /** How it was made: inputs, program, kernels, options. Inputs go by their names, without folders. */
  readonly made: Fingerprint;
  /** The arguments of the program, without `--part` and its value. */
  readonly command: readonly string[];
  /** The files of the whole output, the same in every part. */
  readonly files: readonly WholeFile[];
  readonly tensors: readonly PartTensor[];
  /** The model, in words. */
  readonly model: string;
  /** Size of the whole input. */
  readonly inputBytes: number;
  /** The tensors of the input that are its own. */
  readonly planned: readonly PartPlanned[];
  /** Its quantized layers. */
  readonly layers: readonly LayerResult[];
  readonly elapsedMs: number;
}

/** Returns `made` without the folders of the inputs, which differ from machine to machine. */
export function portable(made: Fingerprint): Fingerprint {
  return {
    ...made,
    inputs: made.inputs.map((input) => ({ ...input, place: basename(input.place) })),
  };
}

/** Returns the files of a plan as a manifest holds them. */
export function wholeFiles({ parts }: Pick<Plan, "parts">): WholeFile[] {
  return parts.map(({ header, totalBytes }) => ({
    header: Buffer.from(header).toString("base64"),
    totalBytes,
  }));
}

/** Writes a manifest: complete, synced and renamed, or not at all. */
export async function writeManifest(
  path: string,
  manifest: Omit<Manifest, "format">,
): Promise<void> {
  const text = JSON.stringify({ format: FORMAT, ...manifest }, spellNumber);
  await writeSideFile(path, `${text}\n`, { force: true, inputs: [], outputs: [] });
}

/**
 * Returns the manifest at `path`; null if there is none.
 *
 * @throws FormatError if it is not one, or of another version of the program.
 */
export function readManifest(path: string): Manifest | null {
  const text = readTextIfThere(path);
  if (text === null) return null;
  const hint = "make the part again with `--force`";
  let value: Manifest;
  try {
    value = JSON.parse(text, readNumber);
  } catch (cause) {
    throw new FormatError("it is not the manifest of a part", { path, hint, cause });
  }
  if (value?.format !== FORMAT || !Array.isArray(value.tensors) || !Array.isArray(value.files)) {
    throw new FormatError("it is not the manifest of a part, or of another version", {
      path,
      hint,
    });
  }
  return value;
}

/** Before what JSON has no form for. */
const MARK = "\0";

function spellNumber(_key: string, value: unknown): unknown {
  if (value instanceof Float64Array) return { [MARK]: [...value] };
  const isPlain = typeof value !== "number" || (Number.isFinite(value) && !Object.is(value, -0));
  return isPlain ? value : `${MARK}${Object.is(value, -0) ? "-0" : value}`;
}

function readNumber(_key: string, value: unknown): unknown {
  if (typeof value === "string" && value.startsWith(MARK)) return Number(value.slice(1));
  if (typeof value === "object" && value !== null && MARK in value) {
    return Float64Array.from((value as Record<string, number[]>)[MARK]!);
  }
  return value;
}
