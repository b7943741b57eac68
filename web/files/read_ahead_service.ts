/** Fills the blocks of `read_ahead.ts` from streams of given files. */

import { BlockTable } from "../../src/core/block_table.ts";
import {
  BLOCK_BYTES,
  type BlockRequest,
  CELL,
  type FileBlock,
  type ReadAheadMemory,
  SLOTS,
} from "./read_ahead.ts";

/** Runs at a time: one for the layer at hand, one for the next. */
const MOST_RUNS = 2;

/** Blocks that a run is ahead of its readers: at first, and at most. It doubles while they follow. */
const AHEAD = Object.freeze({ first: 3, most: 64 });

/**
 * Blocks of one stream. Several streams side by side bring more than twice what one brings, for the same
 * processor time: each waits for the browser's other processes. One of 8 MiB takes two thirds of the
 * processor time of two of 4 MiB: the browser makes memory of its own for every stream.
 */
const STREAM_BLOCKS = Object.freeze({ least: 4, most: 8 });

/** Blocks that stay for a while when they were read: several threads may read the same bytes. */
const KEPT_BLOCKS = 8;

/** Streams side by side. */
const STREAMS = 4;

/** Blocks of a file that are read one after the other, by streams side by side. */
interface BlockRun {
  readonly file: number;
  readonly blob: Blob;
  readonly streams: Set<BlockStream>;
  /** The next stream begins here. */
  next: number;
  /** Blocks before this one are wanted. */
  goal: number;
  ahead: number;
  isClosed: boolean;
}

/** A stream of a run, and the blocks that it still brings: from `next` up to `end`, none once cancelled. */
interface BlockStream {
  readonly reader: StreamReader;
  next: number;
  end: number;
}

/** Answers requests until its thread ends. */
export class ReadAheadService {
  readonly #files: ReadonlyMap<number, Blob>;
  readonly #blocks: Uint8Array;
  readonly #table: BlockTable;
  readonly #cells: Int32Array;
  /** The one that was asked last comes last. */
  #runs: BlockRun[] = [];
  /** Runs that gave way to others, while streams of theirs bring blocks that threads wait for. */
  readonly #closing = new Set<BlockRun>();
  /** Blocks that threads wait for, by {@link keyOf}. */
  readonly #awaited = new Set<string>();
  /** Slots that hold no block. */
  readonly #empty = Array.from({ length: SLOTS }, (_, i) => SLOTS - 1 - i);
  /** Blocks that lie in slots, by slot, in the order in which they came. */
  readonly #held = new Map<number, FileBlock>();

  /** @param files by the numbers that requests name. */
  constructor(files: ReadonlyMap<number, Blob>, { blocks, table, cells }: ReadAheadMemory) {
    this.#files = files;
    this.#blocks = new Uint8Array(blocks.buffer);
    this.#table = new BlockTable(table, () => {});
    this.#cells = new Int32Array(cells);
  }

  /** Takes the requests of one more thread. */
  connect(port: MessagePort): void {
    port.onmessage = ({ data }: MessageEvent<BlockRequest>) => this.request(data);
  }

  /** Begins or continues the run that leads to a block. */
  request({ file, block, isRead }: BlockRequest): void {
    const isThere = isRead || this.#isHeld(file, block);
    if (!isThere) this.#awaited.add(keyOf(file, block));
    const run = this.#runs.findLast((each) =>
      each.file === file && block <= each.goal &&
      (isThere || brings(each, block) || block >= each.next)
    );
    if (run === undefined) {
      const isComing = [...this.#closing].some((each) => each.file === file && brings(each, block));
      if (!isThere && !isComing) this.#begin(file, block);
      return;
    }
    this.#runs = [...this.#runs.filter((each) => each !== run), run];
    if (block + 1 + run.ahead > run.goal) {
      run.ahead = Math.min(AHEAD.most, 2 * run.ahead);
      run.goal = block + 1 + run.ahead;
      this.#fill(run);
    }
  }

  #isHeld(file: number, block: number): boolean {
    return [...this.#held.values()].some((each) => each.file === file && each.block === block);
  }

  #begin(file: number, block: number): void {
    const blob = this.#files.get(file);
    if (blob === undefined) return;
    while (this.#runs.length >= MOST_RUNS) this.#close(this.#runs[0]!);
    const run: BlockRun = {
      file,
      blob,
      streams: new Set(),
      next: block,
      goal: block + 1 + AHEAD.first,
      ahead: AHEAD.first,
      isClosed: false,
    };
    this.#runs.push(run);
    this.#fill(run);
  }

  /** Starts the streams that lead to the goal of a run. */
  #fill(run: BlockRun): void {
    const end = Math.ceil(run.blob.size / BLOCK_BYTES);
    const { least, most } = STREAM_BLOCKS;
    const count = Math.max(least, Math.min(most, Math.floor(run.ahead / STREAMS)));
    // Together they take less processor time than one by one: a third, as a browser wakes threads less often.
    if (run.ahead === AHEAD.most && run.next + STREAMS * count > run.goal) return;
    while (run.next + count <= run.goal && run.next < end) {
      const first = run.next;
      run.next += count;
      this.#read(run, first, run.next).catch(() => {
        if (run.isClosed) return;
        // A thread that then reads by itself learns why.
        Atomics.store(this.#cells, CELL.failed, 1);
        this.#notify();
        this.#close(run);
      });
    }
  }

  /**
   * Ends a run. Blocks that threads wait for still come: else threads at more places than there are runs
   * would take the runs from one another for ever, before a slow stream brings any of them a block.
   */
  #close(run: BlockRun): void {
    if (run.isClosed) return;
    run.isClosed = true;
    this.#runs = this.#runs.filter((each) => each !== run);
    this.#closing.add(run);
    for (const stream of run.streams) {
      if (this.#isWanted(run, stream)) continue;
      stream.end = stream.next;
      stream.reader.cancel().catch(() => {});
    }
  }

  /** Whether a stream goes on. */
  #isWanted(run: BlockRun, { next, end }: BlockStream): boolean {
    if (!run.isClosed) return true;
    for (let block = next; block < end; block++) {
      if (this.#awaited.has(keyOf(run.file, block))) return true;
    }
    return false;
  }

  /** Fills the blocks of one stream, until it ends or nobody wants them. */
  async #read(run: BlockRun, first: number, end: number): Promise<void> {
    const stream: BlockStream = {
      reader: readerOf(run.blob.slice(first * BLOCK_BYTES, end * BLOCK_BYTES)),
      next: first,
      end,
    };
    run.streams.add(stream);
    let slot = -1, filled = 0;
    const publish = () => {
      const name = { file: run.file, block: stream.next++ };
      this.#table.open(slot, name, filled, filled);
      this.#held.set(slot, name);
      this.#awaited.delete(keyOf(name.file, name.block));
      [slot, filled] = [-1, 0];
      this.#notify();
    };
    try {
      let bytes: Uint8Array | null = null;
      while (this.#isWanted(run, stream) && (bytes = await stream.reader.read()) !== null) {
        for (let done = 0; done < bytes.length && this.#isWanted(run, stream);) {
          if (slot < 0) slot = this.#takeSlot();
          const count = Math.min(bytes.length - done, BLOCK_BYTES - filled);
          const at = slot * BLOCK_BYTES + filled;
          this.#blocks.set(bytes.subarray(done, done + count), at);
          done += count;
          filled += count;
          if (filled === BLOCK_BYTES) publish();
        }
      }
      // The file's last block, which is shorter.
      if (filled > 0 && bytes === null && stream.next < stream.end) publish();
    } finally {
      if (slot >= 0) this.#empty.push(slot);
      run.streams.delete(stream);
      if (run.streams.size === 0) this.#closing.delete(run);
      // One that ended by itself has nothing left to cancel.
      stream.reader.cancel().catch(() => {});
    }
  }

  /**
   * Takes a slot to be filled: one whose block was read some blocks ago, which a processor has in its cache still,
   * an empty one, or the one that was filled first. One that a thread copies from is left.
   */
  #takeSlot(): number {
    const held = [...this.#held.keys()], read = held.filter((slot) => this.#table.isRead(slot));
    const taken = this.#takeFrom(read.slice(0, -KEPT_BLOCKS)) ?? this.#empty.pop() ??
      this.#takeFrom([...read, ...held]);
    if (taken === undefined) throw new RangeError("all blocks are in use");
    return taken;
  }

  #takeFrom(slots: readonly number[]): number | undefined {
    for (const slot of slots) {
      this.#table.forget(slot);
      if (!this.#table.close(slot)) continue;
      this.#held.delete(slot);
      return slot;
    }
    return undefined;
  }

  #notify(): void {
    Atomics.add(this.#cells, CELL.filled, 1);
    Atomics.notify(this.#cells, CELL.filled);
  }
}

function keyOf(file: number, block: number): string {
  return `${file} ${block}`;
}

/** Whether a stream of a run is on its way to a block. */
function brings(run: BlockRun, block: number): boolean {
  return [...run.streams].some(({ next, end }) => block >= next && block < end);
}

/** Reads a stream. */
interface StreamReader {
  /** Returns the next bytes, which are good until the next call; null at the end. */
  read(): Promise<Uint8Array | null>;
  cancel(): Promise<void>;
}

/** Memory of streams that have ended. */
const spare: ArrayBuffer[] = [];

/** Returns a reader into memory that is used again and again, if the browser can. */
function readerOf(blob: Blob): StreamReader {
  const stream = blob.stream();
  let reader: ReadableStreamBYOBReader;
  try {
    reader = stream.getReader({ mode: "byob" });
  } catch {
    return plainReader(stream.getReader());
  }
  let buffer = spare.pop() ?? new ArrayBuffer(BLOCK_BYTES);
  return {
    read: async () => {
      const { done, value } = await reader.read(new Uint8Array(buffer));
      // The memory of a read that was cancelled is gone.
      if (value === undefined) return null;
      buffer = value.buffer;
      if (!done) return value;
      spare.push(buffer);
      return null;
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
