/** Opens models on servers: finds their files, and fetches and checks their headers. */

import { FormatError } from "../core/errors.ts";
import type { KnownFile } from "../remote/block_store.ts";
import { listHub } from "../remote/hub.ts";
import {
  displayName,
  httpFile,
  hubFile,
  hubPageOf,
  parseHub,
  type RemoteEnvironment,
  type RemoteFile,
  siblingOf,
} from "../remote/location.ts";
import { DEFAULT_PATIENCE, type PersistOptions } from "../remote/patience.ts";
import { readRemoteRange, type Version } from "../remote/range_request.ts";
import { Redirects } from "../remote/redirects.ts";
import { type Header, headerEnd, MAX_HEADER_BYTES, parseHeader } from "./header.ts";
import type { ModelSource } from "./model_source.ts";
import { FIRST_READ_BYTES, modelAmong } from "./reader.ts";
import { isIndexName, mergeShards, parseIndex } from "./shards.ts";

/** Attempts to open a model: a wrong address should not take half a minute to be told. */
const OPENING_ATTEMPTS = 4;

/** Headers that are fetched at a time. */
const HEADERS_AT_ONCE = 6;

/** A model on a server. */
export interface RemoteModel {
  /** Its headers; how its files are read is up to the caller. */
  readonly source: Omit<ModelSource, "paths">;
  /** In the order that `SourceTensor.file` counts. */
  readonly files: readonly KnownFile[];
}

/** How a model is opened. */
export interface OpenOptions extends PersistOptions {
  /** Environment variables that matter: the token and the address of the Hugging Face Hub. */
  readonly env: RemoteEnvironment;
}

/**
 * Returns the headers of a model on a server, checked in full: no values are fetched.
 *
 * @param word `https://.../model.safetensors`, `https://.../model.safetensors.index.json`,
 *   `hf://owner/repo[/file or folder][@revision]`, or the address of such a page of the Hub.
 * @throws UsageError for a word of another form; FormatError if a header or the index breaks a rule of
 *   its format; RemoteError if a file cannot be fetched; the reason of `given.signal`.
 */
export async function openRemote(word: string, given: OpenOptions): Promise<RemoteModel> {
  const { patience = DEFAULT_PATIENCE } = given;
  const attempts = Math.min(OPENING_ATTEMPTS, patience.attempts);
  const options = { ...given, patience: { ...patience, attempts } };
  const file = await locate(word, options);
  const path = displayName(word);
  const redirects = new Redirects();
  const request: Request = { ...options, redirects };
  const { pathname } = new URL(file.url);
  if (isIndexName(pathname) || pathname.endsWith(".index.json")) {
    const index = parseIndex(await fetchIndex(file, request), file.name);
    const shards = index.files.map((name) => siblingOf(file, name));
    const opened = await fetchHeaders(shards, request);
    const source = mergeShards(opened.map(({ header }) => header), {
      path,
      indexPath: file.name,
      index,
      paths: shards.map(({ name }) => name),
      inputBytes: opened.reduce((sum, { known }) => sum + known.version.bytes, 0),
    });
    return { source, files: opened.map(({ known }) => known) };
  }
  const [{ header, known }] = await fetchHeaders([file], request) as [Opened];
  const { tensors, metadata } = header;
  return {
    source: { path, tensors, metadata, inputBytes: known.version.bytes },
    files: [known],
  };
}

interface Request extends PersistOptions {
  readonly redirects: Redirects;
}

interface Opened {
  readonly header: Header;
  readonly known: KnownFile;
}

/** Returns the file that stands for the model: a safetensors file or an index. */
async function locate(word: string, options: OpenOptions): Promise<RemoteFile> {
  const place = /^hf:/i.test(word) ? parseHub(word) : hubPageOf(word, options.env);
  if (place === null) return httpFile(word, options.env);
  if (place.file !== null && /\.(safetensors|json)$/.test(place.file)) {
    return hubFile(place, place.file, options.env);
  }
  const paths = await listHub(place, options.env, options);
  const what = `Cannot open ${JSON.stringify(word)}`;
  return hubFile(place, modelAmong(paths.sort(), what), options.env);
}

async function fetchHeaders(files: readonly RemoteFile[], request: Request): Promise<Opened[]> {
  const opened: Opened[] = [];
  let next = 0;
  const work = async () => {
    while (next < files.length) {
      const number = next++;
      opened[number] = await fetchHeader(files[number]!, number, request);
    }
  };
  await Promise.all(Array.from({ length: Math.min(HEADERS_AT_ONCE, files.length) }, work));
  return opened;
}

async function fetchHeader(file: RemoteFile, number: number, request: Request): Promise<Opened> {
  const first = await fetchBytes(file, { begin: 0, end: FIRST_READ_BYTES }, request, null);
  const { version } = first;
  let { bytes } = first;
  const place = { path: file.name, fileBytes: version.bytes, file: number };
  const end = headerEnd(bytes, place);
  if (end > bytes.length) {
    const rest = await fetchBytes(file, { begin: bytes.length, end }, request, version);
    const whole = new Uint8Array(end);
    whole.set(bytes);
    whole.set(rest.bytes, bytes.length);
    bytes = whole;
  }
  return { header: parseHeader(bytes, place), known: { file, version } };
}

async function fetchIndex(file: RemoteFile, request: Request): Promise<Uint8Array> {
  const { bytes, version } = await fetchBytes(
    file,
    { begin: 0, end: FIRST_READ_BYTES },
    request,
    null,
  );
  if (version.bytes <= bytes.length) return bytes;
  if (version.bytes > MAX_HEADER_BYTES) {
    throw new FormatError(`the index has ${version.bytes} bytes, more than ${MAX_HEADER_BYTES}`, {
      path: file.name,
      hint: "it is not an index of shards",
    });
  }
  return (await fetchBytes(file, { begin: 0, end: version.bytes }, request, version)).bytes;
}

/** Returns at most the bytes of a range, fewer if the file ends before. */
async function fetchBytes(
  file: RemoteFile,
  range: { begin: number; end: number },
  request: Request,
  version: Version | null,
): Promise<{ bytes: Uint8Array; version: Version }> {
  const bytes = new Uint8Array(range.end - range.begin);
  let done = 0;
  const found = await readRemoteRange(file, range, (part) => {
    bytes.set(part, done);
    done += part.length;
  }, { ...request, version });
  return { bytes: bytes.subarray(0, done), version: found };
}
