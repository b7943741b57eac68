/**
 * The report of a conversion as data: what `--report FILE.json` holds and what the page shows. Described by
 * `docs/schema/report.schema.json`.
 */

import type { ConvertResult, LayerResult } from "../../convert/convert.ts";
import {
  type OutputErrors,
  type OverallOutput,
  overallOutput,
} from "../../convert/output_errors.ts";
import type { PlainRows } from "../../convert/plain_rows.ts";
import { numbersOf, overallErrors } from "../../run/layer_statistics.ts";
import type { PlannedTensor } from "../../plan/plan.ts";
import { storedBytes } from "../../plan/stored_bytes.ts";
import { explain } from "../../presets/explain.ts";
import { type ErrorsJson, errorsJson, learnedJson } from "../errors_json.ts";
import { fitJson } from "../fit_report.ts";
import { nextStep } from "../next_step.ts";
import { planJson } from "../plan_report.ts";
import { compensatedJson, noteJson } from "../report_json.ts";
import {
  errorOf,
  type Measure,
  type VerdictJson,
  verdictJson,
  verdictOf,
  worstBy,
} from "../verdict.ts";

/** Changes if a key changes its meaning or goes; keys may be added without it. */
export const REPORT_VERSION = 1;

/** A quantized layer of a report. */
export interface LayerJson {
  readonly name: string;
  readonly shape: readonly number[];
  /** Null if a file was measured that this program did not plan. */
  readonly format: string | null;
  /** How it is stored, in a few words: `row, convrot 256, gptq`. */
  readonly stored: string;
  /** Bits of codes, scales and tables per weight; absent: not known. */
  readonly bits_per_weight?: number;
  readonly errors: ErrorsJson;
  readonly output: OutputErrors | null;
  /** Estimated output errors (int8 inputs) of plain rows and of the default without data; absent: not known. */
  readonly plain_w8a8?: number;
  readonly default_w8a8?: number;
  /** Its share of the squared errors of all layers, by the measure of the verdict: 0 to 1. */
  readonly share: number;
  /** Details of the method, as in `--json`. */
  readonly [more: string]: unknown;
}

/** A tensor that was not quantized, and why. */
export interface KeptJson {
  readonly name: string;
  readonly action: "keep" | "cast" | "remove";
  readonly reason: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
}

/** The report of one file. */
export interface ReportJson {
  readonly report_version: number;
  /** The program, its version and its build. */
  readonly program: string;
  /** Time of the report, ISO 8601 in UTC. */
  readonly created: string;
  /** The words of the command line. */
  readonly command: readonly string[];
  readonly input: string;
  readonly output: string;
  readonly model: string;
  readonly method: string;
  /** Path of the calibration data; null without any. */
  readonly calibration: string | null;
  readonly next_step: string;
  readonly input_bytes: number;
  readonly output_bytes: number;
  readonly elapsed_ms: number;
  readonly workers: number;
  /** The GPU that took part; null: the CPU did all. */
  readonly gpu: string | null;
  /** Layers with a lower SQNR than this are marked. */
  readonly threshold_db: number;
  readonly verdict: VerdictJson | null;
  readonly overall: ErrorsJson | null;
  readonly overall_output: OverallOutput | null;
  /** Worst first, by the measure of the verdict. */
  readonly layers: readonly LayerJson[];
  readonly kept: readonly KeptJson[];
  /** The plan, as `--dry-run --json` prints it; null for a file that was measured afterwards. */
  readonly plan: Record<string, unknown> | null;
  /** What `--fit` or `--max-error` chose, and from what, as `--dry-run --json` prints it; absent: neither was asked for. */
  readonly fit?: Record<string, unknown>;
}

/** The facts of a report beside the result. */
export interface ReportFacts {
  /** The model that was converted, as the user named it. */
  readonly input: string;
  readonly command: readonly string[];
  /** The method, in a sentence. */
  readonly method: string;
  readonly calibration: string | null;
  /** SQNR in dB below which a layer is marked. */
  readonly thresholdDb: number;
  readonly plain: PlainRows | null;
  readonly program: string;
  readonly created: Date;
}

/** Returns the report of a conversion. Pure. */
export function conversionReport(result: ConvertResult, facts: ReportFacts): ReportJson {
  const { plan } = result;
  const verdict = verdictOf(result.layers);
  const measure = verdict?.measure ?? "weights";
  const schemes = new Map(plan.tensors.map((tensor) => [tensor.source.name, tensor]));
  const bytes = storedBytes(plan);
  const overall = overallErrors(result.layers);
  return {
    report_version: REPORT_VERSION,
    program: facts.program,
    created: facts.created.toISOString(),
    command: facts.command,
    input: facts.input,
    output: result.output,
    model: explain(plan.detection, plan.choice),
    method: facts.method,
    calibration: facts.calibration,
    next_step: nextStep(plan, result.output),
    input_bytes: plan.totals.inputBytes,
    output_bytes: plan.totals.outputBytes,
    elapsed_ms: Math.round(result.elapsedMs),
    workers: result.workers,
    gpu: result.gpu?.adapter ?? null,
    threshold_db: facts.thresholdDb,
    verdict: verdictJson(verdict, facts.plain),
    overall: overall === null ? null : errorsJson(overall),
    overall_output: overallOutput(result.layers),
    layers: layersJson(result.layers, measure, {
      schemeOf: (name) => schemes.get(name)?.scheme ?? null,
      bytesOf: (name) => bytes.get(name) ?? null,
      plain: facts.plain,
    }),
    kept: keptOf(plan.tensors.map((tensor) => ({ ...tensor.source, ...tensor }))),
    plan: planJson(plan),
    ...(result.fit === null ? {} : { fit: fitJson(result.fit)! }),
  };
}

/** A scheme, as far as a report names it. */
export interface ReportedScheme {
  readonly format: string;
  readonly scaling: { readonly kind: string };
  readonly convrotGroupSize: number | null;
  readonly method: string;
}

/** Returns the layers of a report, worst first by `measure`. */
export function layersJson(
  layers: readonly LayerResult[],
  measure: Measure,
  { schemeOf, bytesOf, plain = null }: {
    readonly schemeOf: (name: string) => ReportedScheme | null;
    /** Bytes that a weight is stored in; null: not known. */
    readonly bytesOf: (name: string) => number | null;
    readonly plain?: PlainRows | null;
  },
): LayerJson[] {
  const shares = sharesOf(layers, measure);
  return worstBy(layers, measure).map((layer) => ({
    name: layer.name,
    shape: layer.shape,
    format: schemeOf(layer.name)?.format ?? null,
    stored: storedText(layer, schemeOf(layer.name)),
    ...bitsOf(layer, bytesOf(layer.name)),
    errors: errorsJson(layer.errors),
    output: layer.output,
    ...plainOf(plain, layer.name),
    share: shares.get(layer.name)!,
    bias: layer.bias,
    ...noteJson(layer),
    ...compensatedJson(layer.compensated),
    ...(layer.learned === null ? {} : { learned: learnedSummary(layer) }),
  }));
}

/** What plain rows and the default would have given a layer. */
function plainOf(plain: PlainRows | null, name: string) {
  const found = plain?.byLayer.get(name);
  return found === undefined ? {} : { plain_w8a8: found.w8a8, default_w8a8: found.defaultW8a8 };
}

function bitsOf({ shape }: LayerResult, bytes: number | null): Pick<LayerJson, "bits_per_weight"> {
  if (bytes === null) return {};
  const weights = shape.reduce((product, size) => product * size, 1);
  return { bits_per_weight: Math.round((8000 * bytes) / weights) / 1000 };
}

/** Without the trajectory, of which `--json` has every step. */
function learnedSummary({ learned }: LayerResult): Record<string, unknown> {
  const { trajectory: _, ...rest } = learned!;
  return learnedJson(rest);
}

/** Returns each layer's share of all squared errors by `measure`; layers without it have none. */
export function sharesOf(
  layers: readonly Pick<LayerResult, "name" | "errors" | "stats" | "output">[],
  measure: Measure,
): Map<string, number> {
  const squares = layers.map((layer) =>
    measure === "weights"
      ? numbersOf("compare", layer.stats).squaredError
      : (errorOf(layer, measure) ?? 0) ** 2
  );
  const total = squares.reduce((sum, square) => sum + square, 0);
  return new Map(layers.map(({ name }, i) => [name, total > 0 ? squares[i]! / total : 0]));
}

function storedText({ compensated }: LayerResult, scheme: ReportedScheme | null): string {
  const rows = compensated?.toNearest ?? 0;
  return [
    scheme?.scaling.kind ?? "",
    ...(scheme?.convrotGroupSize == null ? [] : [`convrot ${scheme.convrotGroupSize}`]),
    scheme?.method ?? "",
    ...(rows === 0 ? [] : [`${rows} rows to nearest`]),
  ].filter((word) => word !== "").join(", ");
}

/** Returns the tensors that are not quantized. */
export function keptOf(
  tensors: readonly (Omit<KeptJson, "action" | "bytes"> & {
    readonly action: PlannedTensor["action"];
    readonly byteLength: number;
  })[],
): KeptJson[] {
  return tensors.flatMap(({ name, dtype, shape, byteLength, action, reason }) =>
    action === "quantize" ? [] : [{ name, action, reason, dtype, shape, bytes: byteLength }]
  );
}
