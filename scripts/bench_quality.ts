/** The share that each method leaves of the error of rounding to nearest, on synthetic layers with outliers
 * (`tests/support/synthetic_layer.ts`) and inputs that no method has seen. Reads codes and scales back from
 * the files and does all arithmetic itself, in f64.
 *
 *     deno run -A scripts/bench_quality.ts [--layers 5] [--seed 1] [--markdown]
 *
 * Ratios of geometric means over the layers; weight SQNR as a difference in dB. PASS or MISS by the target.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { convertModel } from "../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../src/plan/options.ts";
import { readModel, tensorOf, writeModel } from "../tests/support/model_files.ts";
import { type SyntheticLayer, syntheticLayer } from "../tests/support/synthetic_layer.ts";
import { decodedLevels, kitchenNearest } from "./support/plain_levels.ts";
import { rotated, rotationGroup } from "./support/plain_math.ts";
import { renderMarkdown, renderTable } from "./support/table.ts";

const WORKER = new URL("../src/run/workers/worker.ts", import.meta.url);
const SHAPES = [[512, 768], [768, 512], [640, 1024], [512, 512], [1024, 768]] as const;
const CALIBRATION_ROWS = 1024, HELD_OUT_ROWS = 256;

/** A way of storing a matrix: what rounding to nearest it is measured against. */
type Grid = "row" | "block" | "tensor" | "group" | "convrot" | "w4a8" | "w6a8";

/** Baseline of a mode: rounding to nearest, or the same mode without data. */
type Baseline = Grid | "no data";

/** One line of the result. */
interface Mode {
  readonly name: string;
  readonly baseline: Baseline;
  readonly options: Partial<ConvertOptions>;
  /** Which calibration file. */
  readonly data?: "rows" | "few" | "maxima" | "wrong";
  /** Most of the error with inputs as they are, and with int8 inputs; least SQNR against the baseline in dB. */
  readonly limits: { readonly a16?: number; readonly a8?: number; readonly sqnr?: number };
}

const QUIP = DEFAULT_CONVERT_OPTIONS.quip;

const MODES: readonly Mode[] = [
  {
    name: "row, GPTQ",
    baseline: "row",
    options: { scaling: "row" },
    data: "rows",
    limits: { a16: 0.66 },
  },
  {
    name: "block 128, GPTQ",
    baseline: "block",
    options: { scaling: "block" },
    data: "rows",
    limits: { a16: 0.62 },
  },
  {
    name: "one scale, GPTQ",
    baseline: "tensor",
    options: { scaling: "tensor" },
    data: "rows",
    limits: { a16: 0.33 },
  },
  { name: "convrot, no data", baseline: "convrot", options: {}, limits: { a16: 1, a8: 1 } },
  {
    name: "convrot, GPTQ",
    baseline: "convrot",
    options: {},
    data: "rows",
    limits: { a16: 0.47, a8: 0.8 },
  },
  { name: "convrot, 64 rows", baseline: "convrot", options: {}, data: "few", limits: { a16: 0.6 } },
  {
    name: "convrot, channel_max",
    baseline: "convrot",
    options: {},
    data: "maxima",
    limits: { a16: 0.68, a8: 0.87 },
  },
  {
    name: "convrot, wrong rows",
    baseline: "convrot",
    options: {},
    data: "wrong",
    limits: { a16: 1.1 },
  },
  ...(["row", "block", "tensor"] as const).map((scaling): Mode => ({
    name: `${scaling === "tensor" ? "one scale" : scaling}, wrong rows`,
    baseline: "no data",
    options: { scaling },
    data: "wrong",
    limits: { a16: 1.1 },
  })),
  {
    name: "quip, no data",
    baseline: "row",
    options: { method: "quip" },
    limits: { a16: 1, a8: 1, sqnr: 0 },
  },
  {
    name: "quip",
    baseline: "row",
    options: { method: "quip" },
    data: "rows",
    limits: { a16: 1, a8: 1, sqnr: 0 },
  },
  {
    name: "quip, requant block",
    baseline: "group",
    options: { method: "quip", quip: { ...QUIP, requantScheme: "block" } },
    limits: { a16: 1 },
  },
  {
    name: "quip, stored transformed",
    baseline: "convrot",
    options: { method: "quip", quip: { ...QUIP, storeTransformed: true } },
    limits: { sqnr: 1 },
  },
  {
    name: "learned rounding, row",
    baseline: "row",
    options: { method: "original", scaling: "row" },
    data: "rows",
    limits: { a16: 0.75 },
  },
];

/** Four and six bits beside rounding to nearest with comfy-kitchen's scales. */
const LEVEL_MODES: readonly Mode[] = ([["w4a8", 0.5], ["w6a8", 0.6]] as const).map((
  [output, a8],
) => ({
  name: `${output}, GPTQ`,
  baseline: output,
  options: { output },
  data: "rows",
  limits: { a8 },
}));

/** Errors of one stored layer. */
interface Score {
  readonly a16: number;
  readonly a8: number;
  readonly sqnrDb: number;
}

/** Some matrix in f64. */
interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly values: Float64Array;
}

/** x·wᵀ. */
function product(x: Matrix, w: Matrix): Float64Array {
  const out = new Float64Array(x.rows * w.rows);
  for (let t = 0; t < x.rows; t++) {
    const row = x.values.subarray(t * x.cols, (t + 1) * x.cols);
    for (let r = 0; r < w.rows; r++) {
      const at = r * w.cols;
      let sum = 0;
      for (let k = 0; k < w.cols; k++) sum += row[k]! * w.values[at + k]!;
      out[t * w.rows + r] = sum;
    }
  }
  return out;
}

function relative(got: Float64Array, want: Float64Array): number {
  let error = 0, signal = 0;
  for (let i = 0; i < want.length; i++) {
    error += (got[i]! - want[i]!) ** 2;
    signal += want[i]! ** 2;
  }
  return Math.sqrt(error / signal);
}

/** Every row rounded to int8 by its own scale. */
function quantizedRows({ rows, cols, values }: Matrix): Matrix {
  const out = new Float64Array(values.length);
  for (let r = 0; r < rows; r++) {
    let most = 0;
    for (let k = 0; k < cols; k++) most = Math.max(most, Math.abs(values[r * cols + k]!));
    const scale = Math.max(most / 127, 1e-30);
    for (let k = 0; k < cols; k++) {
      out[r * cols + k] = Math.round(values[r * cols + k]! / scale) * scale;
    }
  }
  return { rows, cols, values: out };
}

/** Errors of `stored`, whose columns are rotated in groups of `group` (0: not), against the layer. */
function scoreOf(layer: Layer, stored: Matrix, group: number): Score {
  const turn = (m: Matrix): Matrix =>
    group === 0
      ? m
      : { ...m, values: Float64Array.from(rotated(Float32Array.from(m.values), group)) };
  const exact = layer.exact, inputs = turn(layer.heldOut), weight = turn(layer.weight);
  return {
    a16: relative(product(inputs, stored), exact),
    a8: relative(product(quantizedRows(inputs), stored), exact),
    sqnrDb: -20 * Math.log10(relative(stored.values, weight.values)),
  };
}

/** Rounding to nearest on a grid: codes times scales. */
function nearest(weight: Matrix, grid: Grid): Matrix {
  const { rows, cols } = weight;
  if (grid === "w4a8" || grid === "w6a8") {
    const values = kitchenNearest(weight.values, cols, grid === "w4a8" ? 4 : 6);
    return { rows, cols, values };
  }
  const [down, across] = grid === "tensor"
    ? [rows, cols]
    : grid === "block"
    ? [128, 128]
    : grid === "group"
    ? [1, 128]
    : [1, cols];
  const out = new Float64Array(weight.values.length);
  for (let top = 0; top < rows; top += down) {
    for (let left = 0; left < cols; left += across) {
      let most = 0;
      const each = (visit: (i: number) => void): void => {
        for (let r = top; r < top + down; r++) {
          for (let k = left; k < left + across; k++) visit(r * cols + k);
        }
      };
      each((i) => most = Math.max(most, Math.abs(weight.values[i]!)));
      const scale = Math.max(most / 127, 1e-30);
      each((i) => out[i] = Math.round(weight.values[i]! / scale) * scale);
    }
  }
  return { rows, cols, values: out };
}

interface Layer {
  readonly name: string;
  readonly source: SyntheticLayer;
  readonly weight: Matrix;
  readonly heldOut: Matrix;
  /** Outputs of the layer for the held-out inputs. */
  readonly exact: Float64Array;
}

function makeLayers(count: number, seed: number): Layer[] {
  return Array.from({ length: count }, (_, k) => {
    const [rows, cols] = SHAPES[k % SHAPES.length]!;
    const source = syntheticLayer({ rows, cols, seed: seed * 100 + k });
    const weight = { rows, cols, values: Float64Array.from(source.weight) };
    const inputs = Float64Array.from(source.inputs(HELD_OUT_ROWS, 2));
    const heldOut = { rows: HELD_OUT_ROWS, cols, values: inputs };
    return { name: `blocks.${k}.lin`, source, weight, heldOut, exact: product(heldOut, weight) };
  });
}

function writeFiles(folder: string, layers: readonly Layer[]): void {
  const write = (name: string, tensors: Parameters<typeof writeModel>[1]) =>
    writeModel(join(folder, `${name}.safetensors`), tensors);
  const shapeOf = ({ source }: Layer) => [source.rows, source.cols];
  write(
    "model",
    layers.map((layer) =>
      tensorOf(`${layer.name}.weight`, "F32", shapeOf(layer), layer.source.weight)
    ),
  );
  const activations = (rows: number, of: (layer: Layer) => SyntheticLayer) =>
    layers.map((layer) =>
      tensorOf(
        `${layer.name}.activations`,
        "F32",
        [rows, layer.source.cols],
        of(layer).inputs(rows, 1),
      )
    );
  write("rows", activations(CALIBRATION_ROWS, ({ source }) => source));
  write("few", activations(64, ({ source }) => source));
  write(
    "wrong",
    activations(
      CALIBRATION_ROWS,
      ({ source }) => syntheticLayer({ rows: 1, cols: source.cols, seed: 9 }),
    ),
  );
  write(
    "maxima",
    layers.map(({ name, source }) => {
      const most = new Float32Array(source.cols);
      source.inputs(CALIBRATION_ROWS, 1).forEach((x, i) => {
        most[i % source.cols] = Math.max(most[i % source.cols]!, Math.abs(x));
      });
      return tensorOf(`${name}.channel_max`, "F32", [source.cols], most);
    }),
  );
}

/** A layer of a file, and the rotation of its columns. */
function storedLayer(
  file: ReturnType<typeof readModel>,
  name: string,
): { matrix: Matrix; group: number } {
  const tensor = (part: string) => file.get(`${name}.${part}`)!;
  const f32 = (part: string) => new Float32Array(tensor(part).data.slice().buffer);
  if (file.has(`${name}.weight_s_rel`)) return levelLayer(file, name);
  const { shape, data } = tensor("weight");
  const [rows = 1, cols = 1] = shape;
  const codes = new Int8Array(data.slice().buffer), scales = f32("weight_scale");
  const marker = JSON.parse(new TextDecoder().decode(tensor("comfy_quant").data));
  const [down = 1, across = 1] = tensor("weight_scale").shape;
  const values = Float64Array.from(codes, (code, i) => {
    const r = Math.floor(Math.floor(i / cols) * down / rows);
    return code * scales[r * across + Math.floor((i % cols) * across / cols)]!;
  });
  if (!file.has(`${name}.hadamard_quip`)) {
    return { matrix: { rows, cols, values }, group: marker.convrot_groupsize ?? 0 };
  }
  return {
    matrix: untransformed({ rows, cols, values }, f32("sign_row"), f32("sign_col"), marker),
    group: 0,
  };
}

/** The same of a layer in 4 or 6 bits. */
function levelLayer(
  file: ReturnType<typeof readModel>,
  name: string,
): { matrix: Matrix; group: number } {
  const bytes = (part: string) => file.get(`${name}.${part}`)!.data.slice();
  const { shape, data } = file.get(`${name}.weight_s_rel`)!;
  const marker = JSON.parse(new TextDecoder().decode(bytes("comfy_quant")));
  const [rows = 1, groups = 1] = shape, cols = groups * marker.group_size;
  const table = file.has(`${name}.weight_codebook`)
    ? new Float32Array(bytes("weight_codebook").buffer)
    : null;
  const values = decodedLevels({
    ...{ rows, cols, table, weight: bytes("weight"), groupScales: new Uint8Array(data) },
    rowScales: new Float32Array(bytes("weight_s_channel").buffer),
  });
  return { matrix: { rows, cols, values }, group: marker.convrot_groupsize };
}

function untransformed(
  { rows, cols, values }: Matrix,
  signRow: Float32Array,
  signCol: Float32Array,
  marker: { out_features: number; in_features: number },
): Matrix {
  const transform = (
    count: number,
    start: (line: number) => number,
    step: number,
    length: number,
  ) => {
    for (let line = 0; line < count; line++) {
      const first = start(line);
      for (let stride = 1; stride < length; stride *= 2) {
        for (let i = 0; i < length; i++) {
          if (Math.floor(i / stride) % 2 === 1) continue;
          const a = values[first + i * step]!, b = values[first + (i + stride) * step]!;
          values[first + i * step] = a + b;
          values[first + (i + stride) * step] = a - b;
        }
      }
      for (let i = 0; i < length; i++) values[first + i * step]! /= Math.sqrt(length);
    }
  };
  transform(rows, (r) => r * cols, 1, cols);
  transform(cols, (c) => c, cols, rows);
  const { out_features: height, in_features: width } = marker;
  const out = new Float64Array(height * width);
  for (let r = 0; r < height; r++) {
    for (let k = 0; k < width; k++) {
      out[r * width + k] = values[r * cols + k]! * signRow[r]! * signCol[k]!;
    }
  }
  return { rows: height, cols: width, values: out };
}

function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, x) => sum + Math.log(x), 0) / values.length);
}

/** Runs every mode; returns the table and how many targets were missed. */
export async function benchQuality(
  { layers: count, seed }: { layers: number; seed: number },
): Promise<{ rows: string[][]; missed: number }> {
  const folder = mkdtempSync(join(tmpdir(), "quantsmith-quality-"));
  try {
    const layers = makeLayers(count, seed);
    writeFiles(folder, layers);
    const baselines = new Map<Grid, Score[]>();
    const baselineOf = (grid: Grid): Score[] => {
      const known = baselines.get(grid) ?? layers.map((layer) => {
        const isRotated = grid === "convrot" || grid === "w4a8" || grid === "w6a8";
        const group = isRotated ? rotationGroup(layer.weight.cols) : 0;
        const turned = group === 0
          ? layer.weight
          : { ...layer.weight, values: Float64Array.from(rotated(layer.source.weight, group)) };
        return scoreOf(layer, nearest(turned, grid), group);
      });
      baselines.set(grid, known);
      return known;
    };
    const rows = [["mode", "against", "W8A16", "W8A8", "SQNR", "target", "verdict"]];
    let missed = 0;
    const scoresOf = async (
      { options, data }: Pick<Mode, "options" | "data">,
    ): Promise<Score[]> => {
      const output = join(folder, "out.safetensors");
      await convertModel({
        input: join(folder, "model.safetensors"),
        output,
        force: true,
        options: {
          ...DEFAULT_CONVERT_OPTIONS,
          preset: { kind: "none" },
          biasCorrection: false,
          calibrationPath: data === undefined ? null : join(folder, `${data}.safetensors`),
          ...options,
        },
        workerUrl: WORKER,
        workers: 2,
      });
      const file = readModel(output);
      return layers.map((layer) => {
        const { matrix, group } = storedLayer(file, layer.name);
        return scoreOf(layer, matrix, group);
      });
    };
    for (const mode of [...MODES, ...LEVEL_MODES]) {
      const scores = await scoresOf(mode);
      // A mode without rotation at run time is measured against inputs as they are; so is its baseline's
      // W8A8.
      const base = mode.baseline === "no data"
        ? await scoresOf({ options: mode.options })
        : baselineOf(mode.baseline);
      const ratio = (of: (score: Score) => number) =>
        geometricMean(scores.map(of)) / geometricMean(base.map(of));
      const a16 = ratio(({ a16 }) => a16), a8 = ratio(({ a8 }) => a8);
      const mean = (all: readonly Score[]) =>
        all.reduce((sum, { sqnrDb }) => sum + sqnrDb, 0) / all.length;
      const sqnr = mean(scores) - mean(base);
      const { limits } = mode;
      const misses = (limits.a16 !== undefined && a16 > limits.a16) ||
        (limits.a8 !== undefined && a8 > limits.a8) ||
        (limits.sqnr !== undefined && sqnr < limits.sqnr);
      if (misses) missed++;
      const target = [
        ...(limits.a16 === undefined ? [] : [`<= ${limits.a16} x`]),
        ...(limits.a8 === undefined ? [] : [`W8A8 <= ${limits.a8} x`]),
        ...(limits.sqnr === undefined ? [] : [`SQNR >= ${limits.sqnr} dB`]),
      ].join(", ");
      rows.push([
        mode.name,
        mode.baseline,
        `${a16.toFixed(3)} x`,
        `${a8.toFixed(3)} x`,
        `${sqnr >= 0 ? "+" : ""}${sqnr.toFixed(2)} dB`,
        target,
        misses ? "MISS" : "PASS",
      ]);
    }
    return { rows, missed };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  const { values: flags } = parseArgs({
    options: {
      layers: { type: "string", default: "5" },
      seed: { type: "string", default: "1" },
      markdown: { type: "boolean", default: false },
    },
  });
  const { rows, missed } = await benchQuality({
    layers: Number(flags.layers),
    seed: Number(flags.seed),
  });
  console.log(flags.markdown ? renderMarkdown(rows) : renderTable(rows));
  process.exitCode = missed > 0 ? 1 : 0;
}
