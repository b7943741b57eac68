/** Fills the blocks of `read_ahead.ts` from streams of given files. */

import { BlockTable } from "../../src/core/block_table.ts";
import { BLOCK_BYTES, type BlockRequest, CELL, type ReadAheadMemory, SLOTS } from "./read_ahead.ts";

/** Streams at a time: one for the layer at hand, one for the next. */
const MOST_STREAMS = 2;

/** Blocks that a stream is ahead of its readers: at first, and at most. It doubles while they follow. */
const AHEAD = Object.freeze({ first: 2, most: 8 });

/** One stream of a file, from block to block. */
interface BlockStream {
  readonly file: number;
  readonly reader: StreamReader;
  /** The block that is filled now, or next. */
  next: number;
  /** Blocks before this one are wanted. */
  goal: number;
  ahead: number;
  /** Wakes the stream when it has reached its goal. */
  wake: (() => void) | null;
  isClosed: boolean;
}

/** Answers requests until its thread ends. */
export class ReadAheadService {
  readonly #files: ReadonlyMap<number, Blob>;
  readonly #blocks: Uint8Array;
  readonly #table: BlockTable;
  readonly #cells: Int32Array;
  /** The one that was asked last comes last. */
  #streams: BlockStream[] = [];
  /** Slots in the order in which they were filled. */
  readonly #oldest = Array.from({ length: SLOTS }, (_, slot) => slot);
  /** Blocks that lie in slots, by slot. */
  readonly #held = new Map<number, BlockRequest>();

  /** @param files by the numbers that requests name. */
  constructor(files: ReadonlyMap<number, Blob>, { blocks, table, cells }: ReadAheadMemory) {
    this.#files = files;
    this.#blocks = new Uint8Array(blocks);
    this.#table = new BlockTable(table, () => {});
    this.#cells = new Int32Array(cells);
  }

  /** Takes the requests of one more thread. */
  connect(port: MessagePort): void {
    port.onmessage = ({ data }: MessageEvent<BlockRequest>) => this.request(data);
  }

  /** Begins or continues the stream that leads to a block. */
  request({ file, block }: BlockRequest): void {
    const isHeld = [...this.#held.values()].some((each) =>
      each.file === file && each.block === block
    );
    const stream = this.#streams.find((each) =>
      each.file === file && block <= each.goal && (isHeld || block >= each.next)
    );
    if (stream === undefined) {
      if (!isHeld) this.#begin(file, block);
      return;
    }
    this.#streams = [...this.#streams.filter((each) => each !== stream), stream];
    if (block + 1 + stream.ahead > stream.goal) {
      stream.ahead = Math.min(AHEAD.most, 2 * stream.ahead);
      stream.goal = block + 1 + stream.ahead;
      stream.wake?.();
    }
  }

  #begin(file: number, block: number): void {
    const blob = this.#files.get(file);
    if (blob === undefined) return;
    while (this.#streams.length >= MOST_STREAMS) this.#close(this.#streams[0]!);
    const stream: BlockStream = {
      file,
      reader: readerOf(blob.slice(block * BLOCK_BYTES)),
      next: block,
      goal: block + 1 + AHEAD.first,
      ahead: AHEAD.first,
      wake: null,
      isClosed: false,
    };
    this.#streams.push(stream);
    this.#run(stream).catch(() => {
      // A thread that then reads by itself learns why.
      Atomics.store(this.#cells, CELL.failed, 1);
      this.#notify();
    }).finally(() => this.#close(stream));
  }

  #close(stream: BlockStream): void {
    if (stream.isClosed) return;
    stream.isClosed = true;
    this.#streams = this.#streams.filter((each) => each !== stream);
    stream.wake?.();
    stream.reader.cancel().catch(() => {});
  }

  /** Fills blocks until the file ends or the stream is closed. */
  async #run(stream: BlockStream): Promise<void> {
    let slot = -1, filled = 0;
    const publish = () => {
      const name = { file: stream.file, block: stream.next++ };
      this.#table.open(slot, name, filled, 0);
      this.#oldest.push(slot);
      this.#held.set(slot, name);
      [slot, filled] = [-1, 0];
      this.#notify();
    };
    while (!stream.isClosed) {
      if (stream.next >= stream.goal) {
        await new Promise<void>((resolve) => stream.wake = resolve);
        stream.wake = null;
        continue;
      }
      const bytes = await stream.reader.read();
      if (bytes === null) break;
      for (let done = 0; done < bytes.length && !stream.isClosed;) {
        if (slot < 0) slot = this.#takeSlot();
        const count = Math.min(bytes.length - done, BLOCK_BYTES - filled);
        const at = slot * BLOCK_BYTES + filled;
        this.#blocks.set(bytes.subarray(done, done + count), at);
        done += count;
        filled += count;
        if (filled === BLOCK_BYTES) publish();
      }
    }
    if (filled > 0 && !stream.isClosed) publish();
    else if (slot >= 0) this.#oldest.unshift(slot);
  }

  /** Takes the slot that was filled first and that nobody copies from. */
  #takeSlot(): number {
    const at = this.#oldest.findIndex((slot) => !this.#held.has(slot) || this.#table.close(slot));
    if (at < 0) throw new RangeError("all blocks are in use");
    const [slot] = this.#oldest.splice(at, 1);
    this.#held.delete(slot!);
    return slot!;
  }

  #notify(): void {
    Atomics.add(this.#cells, CELL.filled, 1);
    Atomics.notify(this.#cells, CELL.filled);
  }
}

/** Reads a stream. */
interface StreamReader {
  /** Returns the next bytes, which are good until the next call; null at the end. */
  read(): Promise<Uint8Array | null>;
  cancel(): Promise<void>;
}

/** Returns a reader into memory that is used again and again, if the browser can. */
function readerOf(blob: Blob): StreamReader {
  const stream = blob.stream();
  let reader: ReadableStreamBYOBReader;
  try {
    reader = stream.getReader({ mode: "byob" });
  } catch {
    return plainReader(stream.getReader());
  }
  let buffer = new ArrayBuffer(BLOCK_BYTES);
  return {
    read: async () => {
      const { done, value } = await reader.read(new Uint8Array(buffer));
      if (done) return null;
      buffer = value.buffer;
      return value;
    },
    cancel: () => reader.cancel(),
  };
}

function plainReader(reader: ReadableStreamDefaultReader<Uint8Array>): StreamReader {
  return {
    read: async () => (await reader.read()).value ?? null,
    cancel: () => reader.cancel(),
  };
}
