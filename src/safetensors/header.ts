/**
 * The header of a safetensors file: bytes <-> tensors. Pure; every rule of the format that a reader
 * must enforce has its own error here (docs/format.md lists them in the same order).
 */

import { FormatError } from "../core/errors.ts";
import type { TensorInfo } from "../core/tensor.ts";
import { identifyForeign } from "./foreign.ts";
import {
  checkCoverage,
  DAMAGED,
  DOWNLOAD_AGAIN,
  HeaderChecker,
  type HeaderPlace,
  LENGTH_BYTES,
  METADATA_KEY,
} from "./header_checker.ts";
import { scanHeader, type ScannedHeader } from "./scan_header.ts";
import { TableWriter, type TensorTable } from "./tensor_table.ts";

export { type HeaderPlace, LENGTH_BYTES, METADATA_KEY } from "./header_checker.ts";

/** The longest JSON that readers accept, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Header of a file. */
export interface Header {
  /** In offset order. */
  readonly tensors: TensorTable;
  /** The `__metadata__` map; null if there is none. */
  readonly metadata: Readonly<Record<string, string>> | null;
  /** Absolute offset of the data: length bytes and JSON, padding included. */
  readonly dataOffsetBytes: number;
}

/** A tensor and where its bytes lie, relative to the data, as the JSON says it. */
export interface HeaderEntry extends TensorInfo {
  readonly begin: number;
  readonly end: number;
}

const OPEN_BRACE = 0x7b, CLOSE_BRACE = 0x7d, COMMA = 0x2c;
const SPACE = 0x20;

/** Entries that are made text before they become bytes: a header may have a million. */
const ENTRIES_AT_ONCE = 1024;

/** How much text is tried at once where the first bad byte is looked for. */
const SEARCH_BYTES = 65_536;

/**
 * Returns the absolute offset of the data: how many bytes {@link parseHeader} needs.
 *
 * @param start the first bytes of the file, at least 64 or all of it.
 * @throws FormatError if the file cannot be safetensors: too short, another format, a length of 0,
 *   above {@link MAX_HEADER_BYTES} or beyond the end of the file, or no `{` after it.
 */
export function headerEnd(start: Uint8Array, { path, fileBytes }: HeaderPlace): number {
  if (fileBytes === 0) {
    throw new FormatError("the file is empty (0 bytes)", { path, hint: DOWNLOAD_AGAIN });
  }
  if (start[LENGTH_BYTES] !== OPEN_BRACE) {
    const foreign = identifyForeign(start);
    if (foreign !== null) {
      throw new FormatError(`it is ${foreign.what}, not a safetensors file`, {
        path,
        hint: foreign.hint,
      });
    }
  }
  if (fileBytes < LENGTH_BYTES) {
    throw new FormatError(
      `the file has ${fileBytes} bytes, a safetensors file begins with a header length of 8`,
      { path, hint: DOWNLOAD_AGAIN },
    );
  }
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
  const at = { path, offsetBytes: 0 };
  if (length === 0n) {
    throw new FormatError("the header length is 0", {
      ...at,
      hint: "the file is not safetensors, or a download that has not begun: download it again",
    });
  }
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new FormatError(
      `the header length is ${length}, more than the ${MAX_HEADER_BYTES} that are allowed`,
      { ...at, hint: "the file is not safetensors, or its beginning is damaged" },
    );
  }
  const end = LENGTH_BYTES + Number(length);
  if (end > fileBytes) {
    throw new FormatError(`the file ends at byte ${fileBytes}, its header needs ${end}`, {
      ...at,
      hint: DOWNLOAD_AGAIN,
    });
  }
  if (start[LENGTH_BYTES] !== OPEN_BRACE) {
    throw new FormatError(
      `the header does not start with "{" but with byte 0x${hex(start[LENGTH_BYTES]!)}`,
      { path, offsetBytes: LENGTH_BYTES, hint: "the file is not safetensors, or it is damaged" },
    );
  }
  return end;
}

/**
 * Returns what the header of a file says, every rule checked against the size of the file.
 *
 * @param bytes the file from its first byte, at least up to {@link headerEnd}.
 * @throws FormatError naming the rule that is broken; RangeError if `bytes` is too short.
 */
export function parseHeader(bytes: Uint8Array, place: HeaderPlace): Header {
  return headerOf(bytes, place, (from, to) => {
    if (bytes.length < to) {
      throw new RangeError(`Header bytes: got ${bytes.length}, the header needs ${to}`);
    }
    return bytes.subarray(from, to);
  });
}

/**
 * As {@link parseHeader}, with bytes that are read when they are needed.
 *
 * @param start the first bytes of the file, at least 64 or all of it.
 * @param read returns the bytes of the file from one absolute offset to another; they need not last.
 * @throws FormatError naming the rule that is broken; what `read` throws.
 */
export function headerOf(
  start: Uint8Array,
  place: HeaderPlace,
  read: (from: number, to: number) => Uint8Array,
): Header {
  const end = headerEnd(start, place);
  const scanned = scanHeader({ end, read }, place.file ?? 0) ??
    strictHeader(read(LENGTH_BYTES, end), place, end);
  const { metadata } = scanned, tensors = scanned.tensors.inOffsetOrder();
  checkCoverage(tensors, end, place);
  return { tensors, metadata, dataOffsetBytes: end };
}

/**
 * Parses the whole JSON, with an error for each rule.
 *
 * @param json the bytes from the brace on, padding included, up to `end`.
 */
export function strictHeader(json: Uint8Array, place: HeaderPlace, end: number): ScannedHeader {
  const checker = new HeaderChecker(decodeText(json, place.path), place, end);
  const entries = checker.parseText();
  const tensors = new TableWriter(json.length), encoder = new TextEncoder();
  let metadata: Header["metadata"] = null;
  for (const name of Object.keys(entries)) {
    if (name === METADATA_KEY) metadata = checker.metadata(entries[name]);
    else tensors.add(encoder.encode(name), checker.tensor(name, entries[name]));
  }
  return { tensors: tensors.finish(place.file ?? 0), metadata };
}

/**
 * Returns the first bytes of a safetensors file: the length, then the JSON (`__metadata__` first, then
 * the entries as given), padded with spaces so that the data starts 8-byte aligned.
 *
 * @param entries checked for nothing but their names: `layoutTensors` makes them fit.
 * @throws RangeError if a name occurs twice, is `__metadata__` or is not well-formed Unicode, or
 *   if the JSON exceeds {@link MAX_HEADER_BYTES}.
 */
export function encodeHeader(
  entries: readonly HeaderEntry[],
  metadata: Readonly<Record<string, string>> | null,
): Uint8Array {
  const encoder = new TextEncoder(), pieces: Uint8Array[] = [], parts: string[] = [];
  const flush = () => pieces.push(encoder.encode(parts.splice(0).join(",")));
  if (metadata !== null) parts.push(`"${METADATA_KEY}":${JSON.stringify(metadata)}`);
  const names = new Set<string>([METADATA_KEY]);
  for (const { name, dtype, shape, begin, end } of entries) {
    if (names.has(name)) throw headerFault(`the name ${JSON.stringify(name)} is already taken`);
    if (!name.isWellFormed()) {
      throw headerFault(`the name ${JSON.stringify(name)} is not well-formed Unicode`);
    }
    names.add(name);
    parts.push(
      `${
        JSON.stringify(name)
      }:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${begin},${end}]}`,
    );
    if (parts.length === ENTRIES_AT_ONCE) flush();
  }
  if (parts.length > 0) flush();
  // Braces around, commas between.
  const length = pieces.reduce((sum, { length }) => sum + length, 1 + Math.max(1, pieces.length));
  const padded = Math.ceil(length / 8) * 8;
  if (padded > MAX_HEADER_BYTES) {
    throw headerFault(`its JSON has ${padded} bytes, readers accept ${MAX_HEADER_BYTES}`);
  }
  const bytes = new Uint8Array(LENGTH_BYTES + padded).fill(SPACE);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  let at = LENGTH_BYTES;
  bytes[at++] = OPEN_BRACE;
  for (const piece of pieces) {
    if (piece !== pieces[0]) bytes[at++] = COMMA;
    bytes.set(piece, at);
    at += piece.length;
  }
  bytes[at] = CLOSE_BRACE;
  return bytes;
}

function headerFault(fact: string): RangeError {
  return new RangeError(`Cannot write a safetensors header: ${fact}`);
}

/** Returns the JSON text without the padding of spaces. */
function decodeText(json: Uint8Array, path: string): string {
  let end = json.length;
  while (json[end - 1] === SPACE) end--;
  const trimmed = json.subarray(0, end);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(trimmed);
  } catch (cause) {
    throw new FormatError("the header is not valid UTF-8", {
      path,
      offsetBytes: LENGTH_BYTES + firstInvalidUtf8(trimmed),
      hint: DAMAGED,
      cause,
    });
  }
}

/**
 * Returns the offset of the first byte that cannot continue the text; the length of all for a character
 * that is cut at the end. Only for text that is not valid.
 */
function firstInvalidUtf8(bytes: Uint8Array): number {
  let start = 0; // all before is valid, and a character begins here
  while (startsAsUtf8(bytes.subarray(start, start + SEARCH_BYTES))) {
    if (start + SEARCH_BYTES >= bytes.length) return bytes.length;
    start += SEARCH_BYTES - 1; // into the last character tried: it may be cut there, or broken
    while ((bytes[start]! & 0xc0) === 0x80) start--;
  }
  let valid = start;
  let invalid = Math.min(start + SEARCH_BYTES, bytes.length);
  while (invalid - valid > 1) {
    const middle = (valid + invalid) >>> 1;
    if (startsAsUtf8(bytes.subarray(start, middle))) valid = middle;
    else invalid = middle;
  }
  return valid;
}

function startsAsUtf8(bytes: Uint8Array): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
    return true;
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
