/**
 * Reads the header of a safetensors file as writers write it, in one pass over windows of its bytes, into
 * columns: no text of the whole, no objects of the JSON or of tensors. 10^6 tensors are about 45 MB this way,
 * and twenty times that by `JSON.parse`. What it does not know (escapes in names, numbers of 16 digits) or
 * what breaks a rule is left to the strict parser, which accepts it or says what is wrong with it.
 */

import { type DType, DTYPE_BITS } from "../core/dtype.ts";
import { JsonError, parseJsonStrict } from "../core/json.ts";
import { byteLength } from "../core/shape.ts";
import { isMetadata, LENGTH_BYTES, METADATA_KEY } from "./header_checker.ts";
import { TableWriter, type TensorFields, type TensorTable } from "./tensor_table.ts";

/** The bytes of a file with its header. */
export interface HeaderBytes {
  /** Absolute offset of the data. */
  readonly end: number;
  /** Returns the bytes from one absolute offset to another; they need not last. */
  read(from: number, to: number): Uint8Array;
}

/** What a header says, in the order that it says it. */
export interface ScannedHeader {
  readonly tensors: TensorTable;
  readonly metadata: Readonly<Record<string, string>> | null;
}

/** Bytes that are read at once. */
const WINDOW_BYTES = 1 << 20;

/** Numbers of so many digits are exact, and their sums and products are checked. */
const MAX_DIGITS = 15;

const QUOTE = 0x22, COMMA = 0x2c, COLON = 0x3a, BACKSLASH = 0x5c, ZERO = 0x30, NINE = 0x39;
const OPEN_OBJECT = 0x7b, CLOSE_OBJECT = 0x7d, OPEN_ARRAY = 0x5b, CLOSE_ARRAY = 0x5d;
const SPACE = 0x20, TAB = 0x09, LINE_FEED = 0x0a, RETURN = 0x0d;

/** The keys of an entry, with the quote behind them. */
const DTYPE_KEY = ascii('dtype"'),
  SHAPE_KEY = ascii('shape"'),
  OFFSETS_KEY = ascii('data_offsets"');

const METADATA_NAME = ascii(METADATA_KEY);

/** By the hash of their names, so that no text is made of each. */
const DTYPES: ReadonlyMap<number, DType> = new Map(
  (Object.keys(DTYPE_BITS) as DType[]).map((dtype) => [ascii(dtype).reduce(hashed, 0), dtype]),
);

/** Thrown within this module: the bytes are not as expected, or the window ends. */
const OTHER = new Error("the header is not written as usual");

/**
 * Returns the tensors and the metadata of a header; null if the strict parser has to look at it. Whether
 * the tensors cover the data is not checked here.
 *
 * @param file index of the file, for `SourceTensor.file`.
 */
export function scanHeader(bytes: HeaderBytes, file: number): ScannedHeader | null {
  const scanner = new HeaderScanner(bytes.end);
  // The brace that opens the object is there: files without it are refused before.
  let from = LENGTH_BYTES + 1, length = WINDOW_BYTES;
  while (!scanner.isComplete) {
    const to = Math.min(bytes.end, from + length);
    const done = scanner.scan(bytes.read(from, to));
    // One entry may be longer than a window: metadata can be.
    if (done > 0) length = WINDOW_BYTES;
    else if (to < bytes.end) length *= 2;
    else return null;
    from += done;
  }
  if (!isPadding(bytes, from)) return null;
  const tensors = scanner.tensors.finish(file);
  return tensors.hasTwins() ? null : { tensors, metadata: scanner.metadata };
}

/** Whether only spaces follow. */
function isPadding({ end, read }: HeaderBytes, start: number): boolean {
  for (let from = start; from < end; from += WINDOW_BYTES) {
    const isSpaces = read(from, Math.min(end, from + WINDOW_BYTES)).every((byte) => byte === SPACE);
    if (!isSpaces) return false;
  }
  return true;
}

/** Fields of an entry; of a shape and offsets, their numbers. */
interface Fields {
  dtype: DType | null;
  readonly shape: number[];
  readonly offsets: number[];
  hasShape: boolean;
  hasOffsets: boolean;
}

/** Takes the entries of a header, window after window. An entry changes nothing before it is whole. */
class HeaderScanner {
  readonly #dataOffsetBytes: number;
  /** Those of the entry at hand. */
  readonly #fields: Fields = {
    dtype: null,
    shape: [],
    offsets: [],
    hasShape: false,
    hasOffsets: false,
  };
  #window: Uint8Array = new Uint8Array();
  #at = 0;
  readonly tensors: TableWriter;
  metadata: ScannedHeader["metadata"] = null;
  /** Whether the outermost object was closed. */
  isComplete = false;

  constructor(dataOffsetBytes: number) {
    this.#dataOffsetBytes = dataOffsetBytes;
    this.tensors = new TableWriter(dataOffsetBytes);
  }

  /** Takes all entries that are whole in `window`; returns how many bytes they have. */
  scan(window: Uint8Array): number {
    this.#window = window;
    this.#at = 0;
    let done = 0;
    try {
      while (!this.isComplete) {
        this.isComplete = this.#entry();
        done = this.#at;
      }
    } catch (error) {
      if (error !== OTHER) throw error;
    }
    return done;
  }

  /** Takes one entry and the comma or brace after it; returns whether it is the last. */
  #entry(): boolean {
    const isFirst = this.tensors.length === 0 && this.metadata === null;
    if (isFirst && this.#tries(CLOSE_OBJECT)) return true;
    const name = this.#text();
    this.#expect(COLON);
    const metadata = isMetadataName(name) ? this.#metadataValue() : null;
    const fields = metadata === null ? this.#tensor() : null;
    const isLast = this.#tries(CLOSE_OBJECT);
    if (!isLast) this.#expect(COMMA);
    if (fields === null) {
      if (this.metadata !== null) throw OTHER;
      this.metadata = metadata;
    } else this.tensors.add(name, fields);
    return isLast;
  }

  #tensor(): TensorFields {
    const fields = this.#fields, { shape, offsets } = fields;
    fields.dtype = null;
    fields.hasShape = fields.hasOffsets = false;
    this.#expect(OPEN_OBJECT);
    this.#field();
    this.#expect(COMMA);
    this.#field();
    this.#expect(COMMA);
    this.#field();
    this.#expect(CLOSE_OBJECT);
    const { dtype, hasShape, hasOffsets } = fields;
    if (dtype === null || !hasShape || !hasOffsets || offsets.length !== 2) throw OTHER;
    const bytes = offsets[1]! - offsets[0]!, offsetBytes = this.#dataOffsetBytes + offsets[0]!;
    if (byteLength(dtype, shape) !== bytes) throw OTHER;
    return { dtype, shape, offsetBytes, byteLength: bytes };
  }

  #field(): void {
    const fields = this.#fields;
    this.#expect(QUOTE);
    if (fields.dtype === null && this.#triesKey(DTYPE_KEY)) fields.dtype = this.#dtype();
    else if (!fields.hasShape && this.#triesKey(SHAPE_KEY)) {
      this.#numbers(fields.shape);
      fields.hasShape = true;
    } else if (!fields.hasOffsets && this.#triesKey(OFFSETS_KEY)) {
      this.#numbers(fields.offsets);
      fields.hasOffsets = true;
    } else throw OTHER;
  }

  /** Takes the rest of a key and the colon after it. */
  #triesKey(key: Uint8Array): boolean {
    const window = this.#window, start = this.#at;
    for (let i = 0; i < key.length; i++) if (window[start + i] !== key[i]) return false;
    this.#at += key.length;
    this.#expect(COLON);
    return true;
  }

  #dtype(): DType {
    this.#expect(QUOTE);
    const window = this.#window, start = this.#at;
    let hash = 0, at = start;
    for (; at < window.length && window[at] !== QUOTE; at++) hash = hashed(hash, window[at]!);
    const dtype = DTYPES.get(hash);
    if (dtype === undefined || dtype.length !== at - start || at === window.length) throw OTHER;
    for (let i = 0; i < dtype.length; i++) {
      if (dtype.charCodeAt(i) !== window[start + i]) throw OTHER;
    }
    this.#at = at + 1;
    return dtype;
  }

  /** Takes `[1, 2]` into `numbers`. */
  #numbers(numbers: number[]): void {
    numbers.length = 0;
    this.#expect(OPEN_ARRAY);
    if (this.#tries(CLOSE_ARRAY)) return;
    do numbers.push(this.#natural()); while (this.#tries(COMMA));
    this.#expect(CLOSE_ARRAY);
  }

  #natural(): number {
    this.#skipSpace();
    const start = this.#at;
    let value = 0;
    for (;; this.#at++) {
      const byte = this.#window[this.#at];
      if (byte === undefined || byte < ZERO || byte > NINE) break;
      value = 10 * value + (byte - ZERO);
    }
    const digits = this.#at - start;
    const isPadded = digits > 1 && this.#window[start] === ZERO;
    if (digits === 0 || digits > MAX_DIGITS || isPadded) throw OTHER;
    return value;
  }

  /** Takes a string without escapes; returns its bytes, which are valid UTF-8. */
  #text(): Uint8Array {
    this.#expect(QUOTE);
    const window = this.#window, start = this.#at;
    let isAscii = true;
    for (let at = start; at < window.length; at++) {
      const byte = window[at]!;
      if (byte === QUOTE) {
        this.#at = at + 1;
        const text = window.subarray(start, at);
        if (!isAscii) decoded(text);
        return text;
      }
      if (byte < SPACE || byte === BACKSLASH) throw OTHER;
      if (byte > 0x7f) isAscii = false;
    }
    throw OTHER;
  }

  /** Takes the value of `__metadata__`. */
  #metadataValue(): Readonly<Record<string, string>> {
    this.#skipSpace();
    const start = this.#at;
    let depth = 0, isText = false;
    for (let at = start; at < this.#window.length; at++) {
      const byte = this.#window[at]!;
      if (byte === QUOTE) isText = !isText;
      else if (isText && byte === BACKSLASH) at++;
      else if (!isText && byte === OPEN_OBJECT) depth++;
      else if (!isText && byte === CLOSE_OBJECT) depth--;
      if (depth > 0) continue;
      this.#at = at + 1;
      return metadataOf(decoded(this.#window.subarray(start, this.#at)));
    }
    throw OTHER;
  }

  #skipSpace(): void {
    while (isSpace(this.#window[this.#at])) this.#at++;
  }

  /** Takes `byte` if it is the next one that is no space. */
  #tries(byte: number): boolean {
    this.#skipSpace();
    if (this.#window[this.#at] !== byte) return false;
    this.#at++;
    return true;
  }

  #expect(byte: number): void {
    if (!this.#tries(byte)) throw OTHER;
  }
}

function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function isMetadataName(name: Uint8Array): boolean {
  return name.length === METADATA_NAME.length && name.every((byte, i) => byte === METADATA_NAME[i]);
}

function hashed(hash: number, value: number): number {
  return (Math.imul(hash, 31) + value) | 0;
}

function isSpace(byte: number | undefined): boolean {
  return byte === SPACE || byte === TAB || byte === LINE_FEED || byte === RETURN;
}

function decoded(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw OTHER;
  }
}

function metadataOf(text: string): Readonly<Record<string, string>> {
  let value: unknown;
  try {
    value = parseJsonStrict(text, { integersOnly: true });
  } catch (error) {
    if (error instanceof JsonError) throw OTHER;
    throw error;
  }
  if (!isMetadata(value)) throw OTHER;
  return Object.freeze(value);
}
