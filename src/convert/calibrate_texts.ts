/**
 * Calibration data from texts: runs a text encoder on them and writes what its linear layers take in, in the
 * layout of calibration data. Like a conversion, it is planned before the first value is read: the tokens
 * decide which rows are kept, so that every worker writes its rows at their places.
 */

import { basename, dirname, join } from "node:path";
import { AlreadyQuantizedError, FormatError, UnsupportedError } from "../core/errors.ts";
import { VERSION } from "../core/version.ts";
import { ORIGINS_METADATA } from "../calibration/calibration.ts";
import { type KeptTokens, keptTokens, readTexts, tokenizeTexts } from "../calibration/texts.ts";
import type { OptionNames } from "../plan/option_names.ts";
import { type GivenOptions, resolveOptions } from "../plan/resolve_options.ts";
import { type EncoderConfig, parseEncoderConfig } from "../presets/encoders/encoder_config.ts";
import {
  type EncoderGraph,
  linearGroups,
  type NormStep,
} from "../presets/encoders/encoder_graph.ts";
import { findEncoder } from "../presets/encoders/find_encoder.ts";
import { nameOfInput } from "../remote/input_path.ts";
import { expectedBytes, SHARED_MAX_BYTES, workersWithin } from "../run/budget.ts";
import type { EncodeTask, RecordedInputs } from "../run/tasks.ts";
import { loadMoreKinds } from "../run/loaded_kinds.ts";
import { fetchBytesFor } from "../run/workers/fetch_bytes.ts";
import { type Progress, WorkerPool } from "../run/workers/worker_pool.ts";
import { arenaBytesFor, teamBytesFor } from "../run/workers/run_bytes.ts";
import { refuseChanged, watchInputs } from "../safetensors/input_watch.ts";
import { type Layout, layoutTensors } from "../safetensors/layout.ts";
import { checkOutput } from "../safetensors/leftovers.ts";
import { LockedOutput } from "../safetensors/locked_output.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { refuseSameFile } from "../safetensors/output_file.ts";
import { readIfThere } from "../safetensors/small_file.ts";
import { prepare, type Prepared } from "./prepare.ts";

/** Key of the metadata that says how the numbers were made. */
const TEXTS_METADATA = "quantsmith.texts";

/** Parameters of a calibration by texts. */
export interface CalibrateTextsRequest {
  readonly input: string | ModelSource;
  /** Ends with `.safetensors`. */
  readonly output: string;
  /** Path of the texts: one per line, or a JSON array. */
  readonly texts: string;
  /** Path of the model's `tokenizer.json`. */
  readonly tokenizer: string;
  /** Inputs that are kept of each layer, 1 or more. */
  readonly rows: number;
  readonly seed: number;
  readonly force: boolean;
  /** Which layers a conversion would quantize. */
  readonly options: GivenOptions;
  readonly names?: OptionNames;
  readonly workerUrl: URL;
  readonly workers: number;
  /** Null: no limit. */
  readonly memoryLimitBytes: number | null;
  /** Called before the work begins. */
  readonly onStart?: ((about: CalibrationWork) => void) | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What is going to be done. */
export interface CalibrationWork {
  /** Family of the encoder. */
  readonly family: string;
  readonly texts: number;
  readonly tokens: number;
  readonly layers: number;
  readonly rows: number;
  /** Multiply-adds. */
  readonly operations: number;
  readonly outputBytes: number;
  readonly notes: readonly string[];
}

/** Result of a calibration by texts. */
export interface CalibrateTextsResult extends CalibrationWork {
  readonly elapsedMs: number;
}

/**
 * Writes the inputs of the layers of a text encoder.
 *
 * @throws UnsupportedError for a model that is no text encoder, or quantized, for a tokenizer of another
 *   model, and if the texts do not fit into memory; FormatError for files that are not what they should be;
 *   InterruptedError. No output is left behind.
 */
export async function calibrateByTexts(
  request: CalibrateTextsRequest,
): Promise<CalibrateTextsResult> {
  const started = performance.now(), { output, force, signal } = request;
  await checkOutput(output, { force });
  const { prepared, graph, task: unplaced, origins } = planTexts(request);
  const { model } = prepared;
  const { layout, task, layers } = placed(request, { prepared, graph, task: unplaced, origins });
  await loadMoreKinds();
  const workers = workersFor(request, model, task);
  const about: CalibrationWork = {
    family: graph.title,
    texts: task.lengths.length,
    tokens: task.tokens.length,
    layers: layers.length,
    rows: task.kept.length,
    operations: operationsOf(task),
    outputBytes: layout.totalBytes,
    notes: [...prepared.notes, ...notesOf(prepared, layers)],
  };
  request.onStart?.(about);
  const watched = watchInputs(model);
  using file = await LockedOutput.create(output, layout, { force });
  using pool = new WorkerPool(request.workerUrl, workers);
  await pool.run({
    inputPaths: model.paths,
    outputs: file.set.places,
    tasks: [task],
    signal,
    onProgress: request.onProgress,
  });
  await model.secondLook?.();
  refuseChanged(watched);
  await file.commit();
  return { ...about, elapsedMs: performance.now() - started };
}

/** All but the places of what is written. */
function planTexts(request: CalibrateTextsRequest) {
  const { input, output, texts: textsPath, tokenizer, rows, seed } = request;
  const options = resolveOptions(request.options, {
    what: "a calibration",
    ...(request.names === undefined ? {} : { names: request.names }),
  });
  const prepared = preparePlain(input, options);
  const { model } = prepared;
  refuseSameFile(output, [...model.paths, textsPath, tokenizer]);
  const shapes = new Map(model.tensors.map(({ name, shape }) => [name, shape]));
  const graph = findEncoder(shapes, { path: model.path, config: () => configOf(model) });
  const texts = tokenizeTexts(readTexts(textsPath), tokenizer, { graph, seed });
  const { kept, origins } = keptTokens(texts.lengths, { rows, seed });
  const byName = new Map(model.tensors.map((tensor) => [tensor.name, tensor]));
  const tensors = Object.fromEntries(
    namesIn(graph).map((name) => [name, prepared.matrixOf(byName.get(name)!)]),
  );
  const { tokens, lengths } = texts;
  const task = {
    kind: "encode",
    name: graph.title,
    graph,
    tensors,
    tokens,
    lengths,
    kept,
  } as const;
  return { prepared, graph, task, origins, texts };
}

function preparePlain(
  input: string | ModelSource,
  options: ReturnType<typeof resolveOptions>,
): Prepared {
  try {
    return prepare(input, options);
  } catch (error) {
    if (!(error instanceof AlreadyQuantizedError)) throw error;
    const path = typeof input === "string" ? input : input.path;
    throw new UnsupportedError(
      `Cannot run texts through ${JSON.stringify(path)}: it is quantized, and its layers take in ` +
        "what errors have changed; use the BF16, F16 or F32 file that it was made from",
      { cause: error },
    );
  }
}

/** The numbers of the `config.json` beside a local model; null: there is none. */
function configOf({ paths }: ModelSource): EncoderConfig | null {
  const [first] = paths;
  if (typeof first !== "string") return null;
  const path = join(dirname(first), "config.json"), bytes = readIfThere(path);
  if (bytes === null) return null;
  try {
    return parseEncoderConfig(new TextDecoder().decode(bytes));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FormatError(`it is no config of a text encoder: ${why}`, { path, cause });
  }
}

/** Names of all tensors that a graph reads. */
function namesIn({ embedding, blocks }: EncoderGraph): string[] {
  const names = new Set<string>([embedding.tokens]);
  const add = (...found: readonly (string | null)[]) => {
    for (const name of found) if (name !== null) names.add(name);
  };
  const addNorm = (norm: NormStep | null) => add(norm?.weight ?? null, norm?.bias ?? null);
  add(embedding.positions, embedding.types);
  addNorm(embedding.norm);
  for (const block of blocks) {
    const { attention, attentionNorms, mlpNorms } = block;
    for (const { weight, bias } of linearGroups(block).flat()) add(weight, bias);
    for (const norms of [attentionNorms, mlpNorms]) {
      for (const norm of [norms.before, norms.inside, norms.after]) addNorm(norm);
    }
    addNorm(attention.qNorm);
    addNorm(attention.kNorm);
    add(attention.relativeBias);
  }
  return [...names];
}

/** Lays the file out, and the task with the places in it. */
function placed(
  { output, texts, tokenizer, seed }: CalibrateTextsRequest,
  { prepared, graph, task, origins }: {
    readonly prepared: Prepared;
    readonly graph: EncoderGraph;
    readonly task: Omit<EncodeTask, "layers">;
    readonly origins: KeptTokens["origins"];
  },
): { readonly layout: Layout; readonly task: EncodeTask; readonly layers: readonly string[] } {
  const { model, plan } = prepared;
  const quantized = new Set(
    plan.tensors.filter(({ action }) => action === "quantize").map(({ source }) => source.name),
  );
  const layers = graph.blocks.flatMap((block) => linearGroups(block).flat())
    .map(({ weight }) => weight).filter((weight) => quantized.has(weight));
  if (layers.length === 0) {
    throw new UnsupportedError(
      `Cannot write ${JSON.stringify(output)}: no layer of the ${graph.title} in ` +
        `${JSON.stringify(model.path)} would be quantized; \`--dry-run\` gives the reasons`,
    );
  }
  const rows = task.kept.length;
  const infos = layers.flatMap((weight) => {
    const layer = layerOf(weight), { cols } = task.tensors[weight]!;
    return [
      { name: `${layer}.activations`, dtype: "BF16", shape: [rows, cols] },
      { name: `${layer}.channel_max`, dtype: "F32", shape: [cols] },
      { name: `${layer}.channel_mean`, dtype: "F32", shape: [cols] },
    ] as const;
  });
  const about = {
    version: VERSION,
    model: { file: model.paths.map(nameOfInput).map((path) => basename(path)).join(", ") },
    bytes: model.inputBytes,
    family: graph.title,
    texts: { file: basename(texts), count: task.lengths.length, tokens: task.tokens.length },
    tokenizer: basename(tokenizer),
    seed,
  };
  const layout = layoutTensors(infos, {
    [TEXTS_METADATA]: JSON.stringify(about),
    [ORIGINS_METADATA]: JSON.stringify(
      Object.fromEntries(layers.map((weight) => [layerOf(weight), origins])),
    ),
  });
  const at = new Map(layout.entries.map(({ name, offsetBytes }) => [name, offsetBytes]));
  const places = layers.map((weight): [string, RecordedInputs] => {
    const layer = layerOf(weight);
    return [weight, {
      rowsOffsetBytes: at.get(`${layer}.activations`)!,
      maxOffsetBytes: at.get(`${layer}.channel_max`)!,
      meanOffsetBytes: at.get(`${layer}.channel_mean`)!,
    }];
  });
  return { layout, task: { ...task, layers: Object.fromEntries(places) }, layers };
}

function layerOf(weight: string): string {
  return weight.replace(/\.weight$/, "");
}

/** Multiply-adds of all linear layers. */
function operationsOf({ graph, tensors, tokens }: EncodeTask): number {
  return graph.blocks.flatMap((block) => linearGroups(block).flat()).reduce((sum, { weight }) => {
    const { rows, cols } = tensors[weight]!;
    return sum + rows * cols * tokens.length;
  }, 0);
}

/** Layers that a conversion quantizes and that texts do not reach. */
function notesOf({ plan }: Prepared, layers: readonly string[]): string[] {
  const reached = new Set(layers);
  const others = plan.tensors.filter(({ action, source }) =>
    action === "quantize" && !reached.has(source.name)
  );
  if (others.length === 0) return [];
  return [
    `${others.length} layers are no part of the text encoder and get no data, the first ` +
    others[0]!.source.name,
  ];
}

/** @throws UnsupportedError if not even one worker fits, with what would. */
function workersFor(
  { workers: wanted, memoryLimitBytes: limitBytes }: CalibrateTextsRequest,
  { tensors, paths }: ModelSource,
  task: EncodeTask,
): number {
  const needs = {
    arenaBytes: arenaBytesFor([task]),
    teamBytes: teamBytesFor([task]),
    tensorCount: tensors.length,
    sharedBytes: fetchBytesFor(paths),
  };
  const over = Math.max(
    needs.arenaBytes + needs.teamBytes - SHARED_MAX_BYTES,
    limitBytes === null ? 0 : expectedBytes(needs, 1) - limitBytes,
  );
  if (over <= 0) return workersWithin(needs, { wanted, limitBytes });
  const hidden = 4 * task.tokens.length * task.graph.width;
  const share = Math.max(0, 1 - over / hidden);
  const most = Math.floor(share * task.lengths.length);
  const gigabytes = (expectedBytes(needs, 1) / 1e9).toFixed(1);
  throw new UnsupportedError(
    `Cannot run ${task.tokens.length} tokens at once: this needs ${gigabytes} GB of memory, the limit is ` +
      `${(Math.min(limitBytes ?? Infinity, SHARED_MAX_BYTES) / 1e9).toFixed(1)} GB; ` +
      (most > 0 ? `about ${most} of the ${task.lengths.length} texts fit` : "raise --memory-limit"),
  );
}
