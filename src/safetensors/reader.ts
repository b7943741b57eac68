/**
 * Reads safetensors files by position: the headers of a model, then the bytes of single tensors.
 * Opening a model of any size reads a few hundred kilobytes.
 */

import { closeSync, fstatSync, openSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { FormatError, UsageError } from "../core/errors.ts";
import type { SourceTensor } from "../core/tensor.ts";
import { readSmallFile } from "./small_file.ts";
import { type InputPath, nameOfInput } from "../remote/input_path.ts";
import { displayName, isRemote } from "../remote/location.ts";
import { type Header, headerOf, MAX_HEADER_BYTES } from "./header.ts";
import { InputFiles, readExactly } from "./input_files.ts";
import { type FileStamp, stampOf } from "./input_watch.ts";
import { codeOf, explained } from "./io_error.ts";
import type { ModelSource } from "./model_source.ts";
import { isIndexName, mergeShards, parseIndex } from "./shards.ts";

/** Read at once when a file is opened: most headers fit, and need no second read. */
export const FIRST_READ_BYTES = 256 * 1024;

const MODEL_ENDING = ".safetensors";

/** Most names that a message lists. */
const LISTED_NAMES = 8;

/**
 * Returns the headers of a model, checked in full: no values are read.
 *
 * @param path a safetensors file; a folder that holds one, or shards and their index; or an index
 *   (`*.safetensors.index.json`, also of a variant). A model that is open already is returned as it is.
 * @throws FormatError if a header or the index breaks a rule of its format; Error if the path is
 *   missing, unreadable or ambiguous; UsageError for a file on a server, which is not opened so.
 */
export function openModel(path: string | ModelSource): ModelSource {
  if (typeof path !== "string") return path;
  if (isRemote(path)) {
    throw new UsageError(
      `Cannot open ${JSON.stringify(displayName(path))} here: only the model itself is read from ` +
        "a server; download this file first",
    );
  }
  const stats = explained(`Cannot open ${JSON.stringify(path)}`, () => statSync(path));
  return openPath(path, stats.isDirectory() ? modelInFolder(path) : path);
}

/** Reads tensors of one model, keeping its files open in between. Dispose it: `using`. */
export class TensorReader implements Disposable {
  readonly #source: ModelSource;
  readonly #files: InputFiles;

  constructor(source: ModelSource) {
    this.#source = source;
    this.#files = new InputFiles(source.paths);
  }

  /**
   * Returns the bytes of one tensor of the model, newly allocated.
   *
   * @throws Error naming file and tensor if they cannot be read.
   */
  read(tensor: SourceTensor): Uint8Array<ArrayBuffer> {
    const path = this.#source.paths[tensor.file];
    if (path === undefined) throw new RangeError(`The model has no file number ${tensor.file}`);
    return explained(
      `Cannot read tensor ${JSON.stringify(tensor.name)} of ${JSON.stringify(nameOfInput(path))}`,
      () => {
        const bytes = new Uint8Array(tensor.byteLength);
        this.#files.read(tensor.file, bytes, tensor.offsetBytes);
        return bytes;
      },
    );
  }

  /** Closes the files; a later {@link read} opens them again. */
  close(): void {
    this.#files.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opens `file`, which is what the user's `path` stands for. */
function openPath(path: string, file: string): ModelSource {
  if (isIndexName(file) || file.endsWith(".index.json")) return openShards(path, file);
  const { header, fileBytes, stamp } = readHeader(file, 0);
  return {
    path,
    paths: [file],
    tensors: header.tensors,
    metadata: header.metadata,
    inputBytes: fileBytes,
    stamps: [stamp],
  };
}

/**
 * Returns the headers of files that are one model, in the order given: shards without an index.
 *
 * @throws as {@link openModel}.
 */
export function openFiles(paths: readonly string[]): ModelSource {
  const opened = paths.map((path, file) => readHeader(path, file));
  return {
    path: paths[0]!,
    paths,
    tensors: opened.flatMap(({ header }) => [...header.tensors]),
    metadata: opened[0]!.header.metadata,
    inputBytes: opened.reduce((sum, { fileBytes }) => sum + fileBytes, 0),
    stamps: opened.map(({ stamp }) => stamp),
  };
}

function openShards(path: string, indexPath: string): ModelSource {
  const index = parseIndex(readIndex(indexPath), indexPath);
  const folder = dirname(indexPath);
  const missing = index.files.filter((name) => !isFile(join(folder, name)));
  if (missing.length > 0) {
    throw new FormatError(
      `${missing.length} of the ${index.files.length} files that it names are missing: ${
        listNames(missing)
      }`,
      { path: indexPath, hint: `download them into ${JSON.stringify(folder)}` },
    );
  }
  const paths = index.files.map((name) => join(folder, name));
  const opened = paths.map((shard, file) => readHeader(shard, file));
  const merged = mergeShards(opened.map(({ header }) => header), {
    path,
    indexPath,
    index,
    paths,
    inputBytes: opened.reduce((sum, { fileBytes }) => sum + fileBytes, 0),
  });
  return { ...merged, stamps: opened.map(({ stamp }) => stamp) };
}

/** Returns the one file of a folder that stands for its model: an index, or the only safetensors file. */
function modelInFolder(folder: string): string {
  const what = `Cannot open the folder ${JSON.stringify(folder)}`;
  // Hidden names are another program's: resource forks of macOS (`._model.safetensors`), half files.
  const names = explained(what, () => readdirSync(folder))
    .filter((name) => !name.startsWith(".")).sort();
  const parts = names.some(isModelName) ? [] : modelsInParts(folder, names);
  if (parts.length > 0) {
    const [first, ...others] = parts.map((part) => JSON.stringify(part));
    const rest = others.length === 0 ? "" : `, or ${others.join(", ")}`;
    throw new Error(
      `${what}: it is a pipeline with a model in each folder; name one of them: ${first}${rest}`,
    );
  }
  return join(folder, modelAmong(names, what));
}

function isModelName(name: string): boolean {
  return isIndexName(name) || name.endsWith(MODEL_ENDING);
}

/** Folders of a diffusers pipeline with the model that most people want to convert. */
const MAIN_PARTS = ["transformer", "unet"];

/**
 * Returns the models in the folders of a folder, as a pipeline of diffusers has them: one path of each, the
 * diffusion model first.
 */
function modelsInParts(folder: string, names: readonly string[]): string[] {
  const isMain = (name: string) => MAIN_PARTS.includes(name) ? 0 : 1;
  return [...names].sort((a, b) => isMain(a) - isMain(b)).flatMap((name) => {
    const part = join(folder, name);
    if (!statSync(part, { throwIfNoEntry: false })?.isDirectory()) return [];
    const models = readdirSync(part).filter((model) => !model.startsWith(".")).sort()
      .filter(isModelName);
    const model = models.find(isIndexName) ?? models[0];
    return model === undefined ? [] : [join(part, model)];
  });
}

/**
 * Returns the one name that stands for the model of a folder: an index, or the only safetensors file.
 *
 * @param names of the files in it, sorted.
 * @param what the first half of the message if there is none, or more than one.
 */
export function modelAmong(names: readonly string[], what: string): string {
  const indexes = names.filter(isIndexName);
  const models = names.filter((name) => name.endsWith(MODEL_ENDING));
  const found = indexes.length > 0 ? indexes : models;
  if (found.length === 1) return found[0]!;
  if (found.length === 0) {
    const seen = names.length === 0 ? "it is empty" : `it has ${listNames(names)}`;
    throw new Error(`${what}: no .safetensors file is in it; ${seen}`);
  }
  const kind = indexes.length > 0 ? "indexes" : ".safetensors files and no index";
  throw new Error(`${what}: it has ${found.length} ${kind}; name one: ${listNames(found)}`);
}

/** A file whose header was read. */
interface OpenedFile {
  readonly header: Header;
  readonly fileBytes: number;
  readonly stamp: FileStamp;
}

function readHeader(path: string, file: number): OpenedFile {
  const what = `Cannot open ${JSON.stringify(path)}`;
  // Before opening: opening a pipe waits for its writer.
  if (!explained(what, () => statSync(path)).isFile()) {
    throw new Error(`${what}: it is not a regular file, and it must be read at positions`);
  }
  const fd = explained(what, () => openSync(path, "r"));
  try {
    const stamp = stampOf(path, fstatSync(fd, { bigint: true }));
    const fileBytes = Number(stamp.bytes);
    const place = { path, fileBytes, file };
    const start = new Uint8Array(Math.min(fileBytes, FIRST_READ_BYTES));
    explained(what, () => readExactly(fd, start, 0));
    const header = headerOf(start, place, (from, to) => {
      if (to <= start.length) return start.subarray(from, to);
      const bytes = new Uint8Array(to - from);
      explained(what, () => readExactly(fd, bytes, from));
      return bytes;
    });
    return { header, fileBytes, stamp };
  } finally {
    closeSync(fd);
  }
}

function readIndex(path: string): Uint8Array {
  const what = `Cannot open ${JSON.stringify(path)}`;
  const { size } = explained(what, () => statSync(path));
  if (size > MAX_HEADER_BYTES) {
    throw new FormatError(`the index has ${size} bytes, more than ${MAX_HEADER_BYTES}`, {
      path,
      hint: "it is not an index of shards",
    });
  }
  return explained(what, () => readSmallFile(path));
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch (error) {
    if (codeOf(error) === "ENOENT") return false;
    throw new Error(`Cannot open ${JSON.stringify(path)}`, { cause: error });
  }
}

function listNames(names: readonly string[]): string {
  const shown = names.slice(0, LISTED_NAMES).map((name) => JSON.stringify(basename(name)));
  const more = names.length - shown.length;
  return shown.join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/**
 * Returns `length` bytes of a file, newly allocated.
 *
 * @throws Error naming the file if they cannot be read.
 */
export function readRange(
  path: InputPath,
  positionBytes: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  return explained(`Cannot read ${JSON.stringify(nameOfInput(path))}`, () => {
    using files = new InputFiles([path]);
    const bytes = new Uint8Array(length);
    files.read(0, bytes, positionBytes);
    return bytes;
  });
}
