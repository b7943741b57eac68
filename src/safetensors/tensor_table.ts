/**
 * The tensors of one file in columns of numbers: 25 bytes and its name for each, where an object takes 130.
 * Objects are made when the table is walked, and nobody keeps them: a header has up to two million.
 */

import { type DType, DTYPE_BITS } from "../core/dtype.ts";
import type { SourceTensor, Tensors } from "../core/tensor.ts";

/** Dtypes by their number in a column. */
const DTYPES = Object.keys(DTYPE_BITS) as readonly DType[];

const NUMBER_OF: ReadonlyMap<DType, number> = new Map(DTYPES.map((dtype, i) => [dtype, i]));

/** Bytes of the shortest entry of a header, with the comma behind it and a name of one letter. */
const LEAST_ENTRY_BYTES = `"a":{"dtype":"F4","shape":[],"data_offsets":[0,0]},`.length;

/** Shapes that are kept to be used again: models have a few dozen. */
const MAX_SHAPES = 4096;

/** Names that are made text at once. */
const NAMES_AT_ONCE = 512;

/** Steps of a search for equal names, per name, above which names share hashes on purpose. */
const MAX_STEPS = 16;

/** The columns. The first `length` places of each are set. */
interface Columns {
  length: number;
  /** UTF-8, one behind the other. */
  names: Uint8Array;
  /** End of each name. */
  nameEnds: Uint32Array;
  dtypes: Uint8Array;
  /** Absolute offset of the first byte. */
  offsets: Float64Array;
  byteLengths: Float64Array;
  /** Place of the shape in `shapes`. */
  shapesAt: Uint32Array;
  /** Number of sizes, then the sizes. */
  readonly shapes: number[];
}

/** What a tensor has besides its name. */
export interface TensorFields {
  readonly dtype: DType;
  readonly shape: ArrayLike<number>;
  readonly offsetBytes: number;
  readonly byteLength: number;
}

/** Takes the tensors of a header, one after the other. */
export class TableWriter {
  readonly #columns: Columns;
  /** Place of the shape last seen with a hash. */
  readonly #shapePlaces = new Map<number, number>();

  /** @param headerBytes length of the header: columns have room for all that it can hold. */
  constructor(headerBytes: number) {
    // Memory that is never written is never there, so nothing has to grow.
    const most = Math.floor(headerBytes / LEAST_ENTRY_BYTES) + 2;
    this.#columns = {
      length: 0,
      names: new Uint8Array(headerBytes),
      nameEnds: new Uint32Array(most),
      dtypes: new Uint8Array(most),
      offsets: new Float64Array(most),
      byteLengths: new Float64Array(most),
      shapesAt: new Uint32Array(most),
      shapes: [],
    };
  }

  get length(): number {
    return this.#columns.length;
  }

  /** @param name as UTF-8. */
  add(name: Uint8Array, { dtype, shape, offsetBytes, byteLength }: TensorFields): void {
    const columns = this.#columns, index = columns.length++;
    const nameAt = index === 0 ? 0 : columns.nameEnds[index - 1]!;
    // Names are short: a call for each costs more than the copy.
    for (let i = 0; i < name.length; i++) columns.names[nameAt + i] = name[i]!;
    columns.nameEnds[index] = nameAt + name.length;
    columns.dtypes[index] = NUMBER_OF.get(dtype)!;
    columns.offsets[index] = offsetBytes;
    columns.byteLengths[index] = byteLength;
    columns.shapesAt[index] = this.#placeOf(shape);
  }

  /** Returns the table, in the order in which its tensors were added. The writer takes no more. */
  finish(file: number): TensorTable {
    const columns = this.#columns, { length } = columns;
    // Room that was not needed goes.
    columns.names = columns.names.slice(0, columns.nameEnds[length - 1] ?? 0);
    return new TensorTable(columns, file, null);
  }

  #placeOf(shape: ArrayLike<number>): number {
    const { shapes } = this.#columns, { length } = shape;
    let hash = length;
    for (let i = 0; i < length; i++) hash = (Math.imul(hash, 31) + shape[i]!) | 0;
    const known = this.#shapePlaces.get(hash);
    if (known !== undefined && isShapeAt(shapes, known, shape)) return known;
    const place = shapes.push(length) - 1;
    for (let i = 0; i < length; i++) shapes.push(shape[i]!);
    if (this.#shapePlaces.size < MAX_SHAPES) this.#shapePlaces.set(hash, place);
    return place;
  }
}

function isShapeAt(shapes: readonly number[], place: number, shape: ArrayLike<number>): boolean {
  if (shapes[place] !== shape.length) return false;
  for (let i = 0; i < shape.length; i++) if (shapes[place + 1 + i] !== shape[i]) return false;
  return true;
}

/** The tensors of one file, in an order of theirs. */
export class TensorTable implements Tensors<SourceTensor> {
  readonly #columns: Columns;
  readonly #file: number;
  /** Which tensors, in which order; null: all, as they were added. */
  readonly #chosen: Uint32Array | null;
  /** Shapes by their place, so that tensors of one shape share it. */
  readonly #shapes = new Map<number, readonly number[]>();
  readonly length: number;

  constructor(columns: Columns, file: number, chosen: Uint32Array | null) {
    this.#columns = columns;
    this.#file = file;
    this.#chosen = chosen;
    this.length = chosen?.length ?? columns.length;
  }

  *[Symbol.iterator](): Generator<SourceTensor, void> {
    const names = new NameWalk(this.#columns);
    for (let at = 0; at < this.length; at++) yield this.#make(at, names);
  }

  /** The tensor in a place, newly made; undefined if there is none. */
  at(place: number): SourceTensor | undefined {
    const inside = place >= 0 && place < this.length;
    return inside ? this.#make(place, new NameWalk(this.#columns)) : undefined;
  }

  map<Made>(make: (tensor: SourceTensor, place: number) => Made): Made[] {
    const names = new NameWalk(this.#columns);
    return Array.from({ length: this.length }, (_, at) => make(this.#make(at, names), at));
  }

  flatMap<Made>(make: (tensor: SourceTensor, place: number) => Made | readonly Made[]): Made[] {
    const all: Made[] = [];
    let place = 0;
    for (const tensor of this) {
      const made = make(tensor, place++);
      if (Array.isArray(made)) { for (const one of made) all.push(one); }
      else all.push(made as Made);
    }
    return all;
  }

  filter(isWanted: (tensor: SourceTensor) => boolean): SourceTensor[] {
    const wanted: SourceTensor[] = [];
    for (const tensor of this) if (isWanted(tensor)) wanted.push(tensor);
    return wanted;
  }

  find(isWanted: (tensor: SourceTensor) => boolean): SourceTensor | undefined {
    for (const tensor of this) if (isWanted(tensor)) return tensor;
    return undefined;
  }

  some(isWanted: (tensor: SourceTensor) => boolean): boolean {
    return this.find(isWanted) !== undefined;
  }

  reduce<Sum>(add: (sum: Sum, tensor: SourceTensor) => Sum, start: Sum): Sum {
    let sum = start;
    for (const tensor of this) sum = add(sum, tensor);
    return sum;
  }

  /** As {@link filter}, with a table for the result. */
  choose(isWanted: (tensor: SourceTensor) => boolean): TensorTable {
    const places: number[] = [], names = new NameWalk(this.#columns);
    for (let at = 0; at < this.length; at++) {
      if (isWanted(this.#make(at, names))) places.push(this.#place(at));
    }
    if (places.length === this.length) return this;
    return new TensorTable(this.#columns, this.#file, Uint32Array.from(places));
  }

  /** Returns the table in offset order; of tensors at one offset, those of size zero come first. */
  inOffsetOrder(): TensorTable {
    const { offsets, byteLengths } = this.#columns;
    const compare = (a: number, b: number) =>
      offsets[a]! - offsets[b]! || byteLengths[a]! - byteLengths[b]!;
    let isInOrder = true;
    for (let at = 1; at < this.length && isInOrder; at++) {
      isInOrder = compare(this.#place(at - 1), this.#place(at)) <= 0;
    }
    if (isInOrder) return this;
    const order = Uint32Array.from({ length: this.length }, (_, at) => this.#place(at));
    return new TensorTable(this.#columns, this.#file, order.sort(compare));
  }

  /** First byte of the tensor in a place, and the byte behind its last. */
  rangeAt(place: number): { readonly begin: number; readonly end: number } {
    const { offsets, byteLengths } = this.#columns, at = this.#place(place);
    return { begin: offsets[at]!, end: offsets[at]! + byteLengths[at]! };
  }

  /** Whether two tensors of the file have one name. */
  hasTwins(): boolean {
    const { names, nameEnds, length } = this.#columns;
    const slots = new Uint32Array(2 ** Math.ceil(Math.log2(2 * length + 1))); // 1 + index
    const mask = slots.length - 1;
    let steps = MAX_STEPS * length;
    for (let index = 0; index < length; index++) {
      const begin = index === 0 ? 0 : nameEnds[index - 1]!, end = nameEnds[index]!;
      let slot = hashOf(names, begin, end) & mask;
      for (; slots[slot] !== 0; slot = (slot + 1) & mask) {
        const other = slots[slot]! - 1, otherBegin = other === 0 ? 0 : nameEnds[other - 1]!;
        const isSame = nameEnds[other]! - otherBegin === end - begin &&
          areEqual(names, { begin, end, otherBegin });
        if (isSame) return true;
        // V8 hashes texts in a way that no file can know.
        if (--steps < 0) return new Set(this.map(({ name }) => name)).size < length;
      }
      slots[slot] = index + 1;
    }
    return false;
  }

  /** Index of the tensor in a place of the order. */
  #place(at: number): number {
    return this.#chosen === null ? at : this.#chosen[at]!;
  }

  #make(at: number, names: NameWalk): SourceTensor {
    const columns = this.#columns, index = this.#place(at);
    return {
      name: names.at(index),
      dtype: DTYPES[columns.dtypes[index]!]!,
      shape: this.#shapeAt(columns.shapesAt[index]!),
      file: this.#file,
      offsetBytes: columns.offsets[index]!,
      byteLength: columns.byteLengths[index]!,
    };
  }

  #shapeAt(place: number): readonly number[] {
    const known = this.#shapes.get(place);
    if (known !== undefined) return known;
    const { shapes } = this.#columns, begin = place + 1;
    const shape = Object.freeze(shapes.slice(begin, begin + shapes[place]!));
    if (this.#shapes.size < MAX_SHAPES) this.#shapes.set(place, shape);
    return shape;
  }
}

/** FNV-1a, its high bits mixed into the low ones. */
function hashOf(bytes: Uint8Array, begin: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let at = begin; at < end; at++) hash = Math.imul(hash ^ bytes[at]!, 0x01000193);
  return hash ^ (hash >>> 15);
}

function areEqual(
  bytes: Uint8Array,
  { begin, end, otherBegin }: { begin: number; end: number; otherBegin: number },
): boolean {
  for (let at = begin; at < end; at++) {
    if (bytes[at] !== bytes[otherBegin + at - begin]) return false;
  }
  return true;
}

const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Makes text of names, of many at once if they follow one another. */
class NameWalk {
  readonly #columns: Columns;
  /** Indexes of the names in the text. */
  #first = 0;
  #end = 0;
  /** Offset of the text among all names. */
  #textAt = 0;
  /** Null: not all of these names are ASCII, so that places of characters are not those of bytes. */
  #text: string | null = "";

  constructor(columns: Columns) {
    this.#columns = columns;
  }

  at(index: number): string {
    if (index >= this.#end && index < this.#end + NAMES_AT_ONCE) this.#read(index);
    const begin = this.#beginOf(index), end = this.#columns.nameEnds[index]!;
    const isInText = index >= this.#first && index < this.#end && this.#text !== null;
    return isInText
      ? this.#text!.slice(begin - this.#textAt, end - this.#textAt)
      : DECODER.decode(this.#columns.names.subarray(begin, end));
  }

  #read(first: number): void {
    const { names, nameEnds, length } = this.#columns;
    this.#first = first;
    this.#end = Math.min(length, first + NAMES_AT_ONCE);
    this.#textAt = this.#beginOf(first);
    const bytes = names.subarray(this.#textAt, nameEnds[this.#end - 1]!);
    const text = DECODER.decode(bytes);
    this.#text = text.length === bytes.length ? text : null;
  }

  #beginOf(index: number): number {
    return index === 0 ? 0 : this.#columns.nameEnds[index - 1]!;
  }
}
