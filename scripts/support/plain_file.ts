/**
 * Reads safetensors files the short way, sharing nothing with the product: what the demonstration says
 * about a file must not come from the code that wrote it. Expects a valid file.
 */

import fs from "node:fs";

/** A header entry. */
interface Entry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/** Some rows of a matrix, row-major. */
export interface Rows {
  readonly rows: number;
  readonly cols: number;
  readonly values: Float32Array;
}

/** How a layer is stored: the marker that ComfyUI reads. */
export interface Marker {
  readonly format: string;
  readonly convrot?: boolean;
  readonly convrot_groupsize?: number;
}

/** An open file. Close it. */
export class PlainFile implements Disposable {
  readonly entries: ReadonlyMap<string, Entry>;
  readonly #fd: number;
  readonly #dataStart: number;

  constructor(path: string) {
    this.#fd = fs.openSync(path, "r");
    const length = Number(new DataView(this.#read(0, 8).buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(this.#read(8, length)));
    delete header.__metadata__;
    this.entries = new Map(Object.entries(header as Record<string, Entry>));
    this.#dataStart = 8 + length;
  }

  #read(position: number, length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length;) {
      const count = fs.readSync(this.#fd, bytes, at, length - at, position + at);
      if (count === 0) throw new Error("Cannot read: the file is shorter than its header says");
      at += count;
    }
    return bytes;
  }

  /** Returns the entry of `name`. */
  entry(name: string): Entry {
    const entry = this.entries.get(name);
    if (entry === undefined) throw new Error(`Cannot find tensor "${name}"`);
    return entry;
  }

  /** Returns the marker of a layer, null if it is not quantized. */
  marker(layer: string): Marker | null {
    const entry = this.entries.get(`${layer}.comfy_quant`);
    if (entry === undefined) return null;
    const [begin, end] = entry.data_offsets;
    return JSON.parse(new TextDecoder().decode(this.#read(this.#dataStart + begin, end - begin)));
  }

  /** Returns the rows `indices` of a matrix as f32; a scalar or vector counts as one column. */
  rows(name: string, indices: readonly number[]): Rows {
    const { dtype, shape, data_offsets: [begin, end] } = this.entry(name);
    const rows = shape[0] ?? 1;
    const rowBytes = (end - begin) / rows;
    const parts = indices.map((row) =>
      decode(this.#read(this.#dataStart + begin + row * rowBytes, rowBytes), dtype)
    );
    const cols = parts[0]?.length ?? 0;
    const values = new Float32Array(indices.length * cols);
    parts.forEach((part, index) => values.set(part, index * cols));
    return { rows: indices.length, cols, values };
  }

  /** Returns all rows of a matrix as f32; a vector is one row. */
  all(name: string): Rows {
    const { dtype, shape, data_offsets: [begin, end] } = this.entry(name);
    const values = decode(this.#read(this.#dataStart + begin, end - begin), dtype);
    const rows = shape.length > 1 ? shape[0]! : 1;
    return { rows, cols: values.length / rows, values: Float32Array.from(values) };
  }

  [Symbol.dispose](): void {
    fs.closeSync(this.#fd);
  }
}

function decode(bytes: Uint8Array<ArrayBuffer>, dtype: string): Float32Array | Int8Array {
  switch (dtype) {
    case "F32":
      return new Float32Array(bytes.buffer);
    case "I8":
      return new Int8Array(bytes.buffer);
    case "BF16": {
      const bits = Uint32Array.from(new Uint16Array(bytes.buffer), (half) => half << 16);
      return new Float32Array(bits.buffer);
    }
    case "F16": {
      const view = new DataView(bytes.buffer);
      return Float32Array.from(
        { length: bytes.length / 2 },
        (_, i) => halfToFloat(view.getUint16(2 * i, true)),
      );
    }
    default:
      throw new Error(`Cannot decode ${dtype}`);
  }
}

function halfToFloat(bits: number): number {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
