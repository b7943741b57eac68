/** The rules of the JSON of a header: what an entry must say, and how entries must cover the data. */

import { type DType, DTYPE_BITS, isDType } from "../core/dtype.ts";
import { FormatError } from "../core/errors.ts";
import { isJsonObject, JsonError, offsetOfKey, parseJsonStrict } from "../core/json.ts";
import { byteLength, elementCount } from "../core/shape.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { TensorTable } from "./tensor_table.ts";

/** Bytes before the JSON: its length as a little-endian u64. */
export const LENGTH_BYTES = 8;

/** The key that is not a tensor. */
export const METADATA_KEY = "__metadata__";

/** Advice about a file that ends too early. */
export const DOWNLOAD_AGAIN = "the file is not complete: download or copy it again";

/** Advice about a file that contradicts itself. */
export const DAMAGED =
  "the file is damaged or its writer is faulty: download it again or save it anew";

/** Most characters of a file's own text that a message quotes. */
const QUOTED_CHARACTERS = 200;

/** Which file a header is of. */
export interface HeaderPlace {
  /** For error messages. */
  readonly path: string;
  /** Size of the whole file. */
  readonly fileBytes: number;
  /** Becomes `SourceTensor.file`; 0 if omitted. */
  readonly file?: number;
}

/** Whether a value may be `__metadata__`: an object of well-formed text. */
export function isMetadata(value: unknown): value is Record<string, string> {
  return isJsonObject(value) &&
    Object.entries(value).every(([key, text]) =>
      typeof text === "string" && key.isWellFormed() && text.isWellFormed()
    );
}

/** Checks one header's JSON, knowing where in the file it stands. */
export class HeaderChecker {
  readonly #text: string;
  readonly #place: HeaderPlace;
  readonly #dataOffsetBytes: number;

  constructor(text: string, place: HeaderPlace, dataOffsetBytes: number) {
    this.#text = text;
    this.#place = place;
    this.#dataOffsetBytes = dataOffsetBytes;
  }

  /** Returns the JSON's outermost object. */
  parseText(): Record<string, unknown> {
    let json: unknown;
    try {
      json = parseJsonStrict(this.#text, { integersOnly: true });
    } catch (error) {
      if (!(error instanceof JsonError)) throw error;
      throw this.#jsonFault(error);
    }
    // JSON.parse lets line ends and tabs follow; the format pads with spaces only.
    if (!this.#text.endsWith("}")) {
      throw this.#trailingFault(this.#text.trimEnd().length);
    }
    return json as Record<string, unknown>; // it starts with "{"
  }

  /** Returns the value of `__metadata__`, frozen. */
  metadata(value: unknown): Readonly<Record<string, string>> {
    if (!isJsonObject(value)) throw this.#metadataFault("is not an object of strings");
    for (const [key, text] of Object.entries(value)) {
      if (typeof text !== "string") {
        throw this.#metadataFault(`has a value that is not a string: ${quoted(key)}`);
      }
      if (!key.isWellFormed() || !text.isWellFormed()) {
        throw this.#metadataFault(`has text that is not well-formed Unicode: ${quoted(key)}`);
      }
    }
    return Object.freeze(value as Record<string, string>);
  }

  /** Returns the tensor that one entry describes; not yet whether its bytes are there. */
  tensor(name: string, entry: unknown): SourceTensor {
    if (!name.isWellFormed()) throw this.#entryFault(name, "its name is not well-formed Unicode");
    if (!isJsonObject(entry)) throw this.#entryFault(name, "its entry is not an object");
    for (const field of ["dtype", "shape", "data_offsets"]) {
      if (!Object.hasOwn(entry, field)) throw this.#entryFault(name, `"${field}" is missing`);
    }
    const { dtype, shape, data_offsets: offsets, ...others } = entry;
    const unknown = Object.keys(others)[0];
    if (unknown !== undefined) {
      throw this.#entryFault(name, `its entry has an unknown field ${quoted(unknown)}`);
    }
    if (typeof dtype !== "string" || !isDType(dtype)) {
      throw this.#entryFault(name, `the dtype ${quoted(dtype)} is unknown`);
    }
    if (!isNaturals(shape)) {
      throw this.#entryFault(name, `shape is not an array of non-negative integers`);
    }
    if (!isNaturals(offsets) || offsets.length !== 2) {
      throw this.#entryFault(name, `data_offsets are not two non-negative integers`);
    }
    const [begin, end] = offsets as [number, number];
    if (begin > end) {
      throw this.#entryFault(name, `data_offsets begin at ${begin}, after their end at ${end}`);
    }
    const needed = this.#neededBytes(name, dtype, shape);
    if (end - begin !== needed) {
      throw this.#entryFault(
        name,
        `data_offsets span ${end - begin} bytes, shape ${
          listed(shape)
        } as ${dtype} needs ${needed}`,
      );
    }
    const offsetBytes = this.#dataOffsetBytes + begin;
    return { name, dtype, shape, file: this.#place.file ?? 0, offsetBytes, byteLength: needed };
  }

  #neededBytes(name: string, dtype: DType, shape: readonly number[]): number {
    const needed = byteLength(dtype, shape);
    if (needed !== undefined) return needed;
    const count = elementCount(shape);
    const shown = `shape ${listed(shape)} as ${dtype}`;
    if (count === undefined || !Number.isSafeInteger(count * DTYPE_BITS[dtype])) {
      throw this.#entryFault(name, `${shown} has more bytes than can be counted`);
    }
    throw this.#entryFault(name, `${shown} does not fill whole bytes`);
  }

  #jsonFault(error: JsonError): FormatError {
    switch (error.fault) {
      case "duplicate":
        return this.#textFault(
          `the header has the key ${quoted(error.key)} twice`,
          error.offset,
          error,
        );
      case "trailing":
        return this.#trailingFault(error.offset!, error);
      case "number":
        return this.#textFault(
          "the header has a number that is not an integer",
          error.offset,
          error,
        );
      case "depth":
        return this.#textFault(`the header is refused: ${error.message}`, error.offset, error);
      case "syntax":
        return this.#textFault(
          `the header is not valid JSON: ${error.message}`,
          error.offset,
          error,
        );
    }
  }

  #trailingFault(jsonEnd: number, cause?: unknown): FormatError {
    const rule = "something other than spaces follows the JSON of the header";
    const spaces = this.#text.slice(jsonEnd).search(/[^ ]/);
    return this.#textFault(rule, jsonEnd + spaces, cause);
  }

  #entryFault(tensor: string, rule: string): FormatError {
    const offsetBytes = this.#byteOffset(offsetOfKey(this.#text, tensor));
    return new FormatError(rule, { path: this.#place.path, tensor, offsetBytes, hint: DAMAGED });
  }

  #metadataFault(fact: string): FormatError {
    return this.#textFault(`"${METADATA_KEY}" ${fact}`, offsetOfKey(this.#text, METADATA_KEY));
  }

  #textFault(rule: string, offset: number | null, cause?: unknown): FormatError {
    const offsetBytes = this.#byteOffset(offset ?? 0);
    return new FormatError(rule, { path: this.#place.path, offsetBytes, hint: DAMAGED, cause });
  }

  /** Returns the absolute offset in the file of a character of the JSON. */
  #byteOffset(character: number): number {
    return LENGTH_BYTES + new TextEncoder().encode(this.#text.slice(0, character)).length;
  }
}

/** Checks that the tensors, in offset order, cover the data exactly. @throws FormatError. */
export function checkCoverage(
  tensors: TensorTable,
  dataOffsetBytes: number,
  { path, fileBytes }: HeaderPlace,
): void {
  let dataEnd = dataOffsetBytes;
  for (let i = 0; i < tensors.length; i++) dataEnd = Math.max(dataEnd, tensors.rangeAt(i).end);
  if (dataEnd > fileBytes) {
    const cut = tensors.find((tensor) => tensor.offsetBytes + tensor.byteLength > fileBytes)!;
    throw new FormatError(
      `the file ends at byte ${fileBytes}, its tensors end at ${dataEnd}: ` +
        `${dataEnd - fileBytes} bytes are missing`,
      { path, tensor: cut.name, offsetBytes: cut.offsetBytes, hint: DOWNLOAD_AGAIN },
    );
  }
  let expected = dataOffsetBytes;
  for (let i = 0; i < tensors.length; i++) {
    const { begin, end } = tensors.rangeAt(i), gap = begin - expected;
    if (gap !== 0) {
      const before = i === 0 ? "the header" : quoted(tensors.at(i - 1)!.name);
      throw new FormatError(
        gap < 0
          ? `its data overlaps that of ${before} by ${-gap} bytes`
          : `a hole of ${gap} bytes lies between ${before} and its data`,
        { path, tensor: tensors.at(i)!.name, offsetBytes: begin, hint: DAMAGED },
      );
    }
    expected = end;
  }
  if (expected < fileBytes) {
    throw new FormatError(`${fileBytes - expected} bytes follow the last tensor`, {
      path,
      offsetBytes: expected,
      hint: DAMAGED,
    });
  }
}

function isNaturals(value: unknown): value is number[] {
  return Array.isArray(value) &&
    value.every((item) => Number.isSafeInteger(item) && item >= 0 && !Object.is(item, -0));
}

/** Returns a file's own text for a message: escaped, and cut if it would fill the screen. */
function quoted(value: unknown): string {
  return cut(JSON.stringify(value) ?? "undefined");
}

function listed(shape: readonly number[]): string {
  return cut(`[${shape.join(", ")}]`);
}

function cut(text: string): string {
  return text.length <= QUOTED_CHARACTERS ? text : `${text.slice(0, QUOTED_CHARACTERS)}...`;
}
