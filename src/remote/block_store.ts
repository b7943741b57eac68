/**
 * The bytes of a model on a server, on the thread that fetches them. Reads are announced beforehand
 * (`schedule`), fetched in that order by several requests, and let go once it has been read, so that
 * memory is a window whatever the model's size. What is asked for out of turn is fetched at once.
 *
 * If values are read more than once, the blocks are kept in a file (`keep`) and read from there.
 */

import { type BlockName, BlockTable } from "../core/block_table.ts";
import type { ChannelServer, FileRange, ReadAnswer, RemoteChannel, Wanted } from "./channel.ts";
import { Extents } from "./extents.ts";
import type { RemoteFile } from "./location.ts";
import type { PersistOptions } from "./patience.ts";
import { type ByteRange, readRemoteRange, type Version } from "./range_request.ts";
import { Redirects } from "./redirects.ts";
import { slotsOf, type StoreSizes } from "./store_sizes.ts";
import { SpillFile } from "./spill_file.ts";
import { WholeFile } from "./whole_file.ts";

/** A file with what its first answer said of it. */
export interface KnownFile {
  readonly file: RemoteFile;
  readonly version: Version;
}

/** Parameters of a store. */
export interface StoreOptions extends PersistOptions {
  /** Memory for blocks, and the listener for them. */
  readonly channel: Pick<RemoteChannel, "blocks" | "table" | "sizes">;
  /** Folder for what is kept. */
  readonly spillFolder: string;
}

interface Block {
  /** Wanted, on its way, in memory, or in the file. */
  state: "absent" | "pending" | "ready" | "kept";
  /** Scheduled bytes of it that have not been read yet; once it is ready, the table counts them. */
  wanted: number;
  /** Place in memory; null: nowhere. */
  slot: number | null;
  waiters: { resolve: () => void; reject: (error: unknown) => void }[];
}

/** A part of a block. `block` counts through all files. */
interface Part {
  readonly block: number;
  readonly begin: number;
  readonly end: number;
}

/** Answers a channel. */
export class BlockStore implements ChannelServer, Disposable {
  readonly #files: readonly KnownFile[];
  /** Number of each file's first block. */
  readonly #firstBlock: readonly number[];
  readonly #sizes: StoreSizes;
  readonly #options: StoreOptions;
  readonly #redirects = new Redirects();
  /** Blocks that are scheduled, on their way or held. */
  readonly #blocks = new Map<number, Block>();
  readonly #extents: Extents;
  readonly #memory: Uint8Array;
  readonly #table: BlockTable;
  /** The block that is ready in each slot. */
  readonly #held: (number | null)[];
  /** Slots that no block has or will have. */
  readonly #free: number[];
  /** Blocks in the order they are wanted, and how many of them have been asked for. */
  #queue: number[] = [];
  #asked = 0;
  #spill: SpillFile | null = null;
  /** Requests under way. */
  #active = 0;
  #hasFailed = false;
  /** Files that come in one piece, and have been asked for. */
  readonly #whole = new Map<number, WholeFile>();

  constructor(files: readonly KnownFile[], options: StoreOptions) {
    this.#files = files;
    this.#options = options;
    const { blocks: memory, table, sizes } = options.channel;
    this.#sizes = sizes;
    this.#memory = new Uint8Array(memory);
    this.#table = new BlockTable(table, () => {}); // what this thread lets go of, it looks at itself
    this.#free = Array.from({ length: slotsOf(sizes) }, (_, slot) => slot);
    this.#held = this.#free.map(() => null);
    let blocks = 0;
    this.#firstBlock = files.map(({ version }) => {
      const first = blocks;
      blocks += Math.ceil(version.bytes / this.#sizes.blockBytes);
      return first;
    });
    this.#extents = new Extents((file, begin, end) => this.#fetchExtent(file, { begin, end }));
  }

  keep(): void {
    this.#spill ??= new SpillFile(
      this.#options.spillFolder,
      this.#files.map(({ version }) => version.bytes),
    );
  }

  /** Fetches small ranges and holds them for good. */
  async hold(ranges: readonly FileRange[]): Promise<void> {
    const parts = ranges.filter(({ file }) => this.#files[file]!.version.hasParts);
    await this.#extents.hold(parts, this.#sizes.connections);
  }

  schedule(ranges: readonly FileRange[], more: boolean): void {
    if (!more) this.#dropSchedule();
    for (const { file, begin, end } of ranges) {
      if (!this.#files[file]!.version.hasParts) {
        this.#wholeFile(file);
        continue;
      }
      for (const part of this.#partsOf(file, begin, end)) {
        const block = this.#blockAt(part.block);
        if (block.wanted === 0 && block.state === "absent") this.#queue.push(part.block);
        if (block.state === "ready") this.#table.want(block.slot!, part.end - part.begin);
        else block.wanted += part.end - part.begin;
      }
    }
    this.#pump();
  }

  async read({ file, positionBytes, length, view }: Wanted): Promise<ReadAnswer> {
    const end = positionBytes + length;
    const { bytes } = this.#files[file]!.version;
    if (end > bytes) {
      throw new RangeError(
        `Cannot read bytes ${positionBytes} to ${end}: the file ends at byte ${bytes}`,
      );
    }
    const inBox = view.subarray(0, length);
    if (!this.#files[file]!.version.hasParts) {
      await this.#wholeFile(file).read(inBox, positionBytes);
      return { kind: "copied", length: inBox.length };
    }
    if (this.#extents.read(file, inBox, positionBytes)) {
      return { kind: "copied", length: inBox.length };
    }
    const [part] = this.#partsOf(file, positionBytes, end) as [Part];
    return await this.#readPart(file, part, view);
  }

  tidy(): void {
    for (const index of this.#held) {
      if (index !== null) this.#letGoIfDone(index, this.#blocks.get(index)!);
    }
    this.#pump();
  }

  [Symbol.dispose](): void {
    this.#spill?.close();
    this.#spill = null;
  }

  async #readPart(file: number, part: Part, view: Uint8Array): Promise<ReadAnswer> {
    const inBox = view.subarray(0, part.end - part.begin);
    // Awaited blocks may have been released meanwhile: others read it too.
    for (;;) {
      const known = this.#blocks.get(part.block);
      const isFetched = known !== undefined && known.state !== "absent";
      if (
        !isFetched && (this.#free.length === 0 || (known === undefined && this.#spill === null))
      ) {
        const { bytes } = this.#files[file]!.version;
        await this.#extents.fetch(file, inBox, part.begin, bytes);
        return { kind: "copied", length: inBox.length };
      }
      const block = known ?? this.#blockAt(part.block);
      if (block.state === "kept") {
        this.#spill!.read(file, inBox, part.begin);
        return { kind: "copied", length: inBox.length };
      }
      if (block.state === "ready") return this.#lend(file, part);
      const arrival = new Promise<void>((resolve, reject) =>
        block.waiters.push({ resolve, reject })
      );
      if (block.state === "absent") void this.#fetch(file, part.block, 1);
      await arrival;
    }
  }

  /** Pins a block that is ready, for who asked. */
  #lend(file: number, part: Part): ReadAnswer {
    const { slot } = this.#table.pin(this.#nameOf(file, part.block))!;
    const at = part.begin - this.#beginOf(file, part.block);
    const offsetBytes = slot * this.#sizes.blockBytes + at;
    return { kind: "lent", length: part.end - part.begin, offsetBytes };
  }

  /** Starts as many requests as the window allows. */
  #pump(): void {
    const { connections, windowBlocks, requestBlocks, urgentBlocks } = this.#sizes;
    const most = Math.min(requestBlocks, windowBlocks);
    while (!this.#hasFailed && this.#active < connections) {
      // A small rest of the window waits until it makes a whole request.
      if (this.#free.length - urgentBlocks < most) return;
      const first = this.#nextOpen();
      if (first === null) return;
      const file = this.#fileOf(first);
      let count = 1;
      while (count < most && this.#queue[this.#asked] === first + count) {
        if (!this.#isOpen(first + count) || this.#fileOf(first + count) !== file) break;
        this.#asked++;
        count++;
      }
      void this.#fetch(file, first, count);
    }
  }

  /** Takes the next block of the queue that nobody has asked for; null: none is left. */
  #nextOpen(): number | null {
    while (this.#asked < this.#queue.length) {
      const block = this.#queue[this.#asked++]!;
      if (this.#isOpen(block)) return block;
    }
    return null;
  }

  #isOpen(block: number): boolean {
    return this.#blocks.get(block)?.state === "absent";
  }

  /** Fetches blocks; each is ready as soon as it is whole. Never rejects: waiting readers are notified. */
  async #fetch(file: number, first: number, count: number): Promise<void> {
    const { blockBytes } = this.#sizes;
    const { file: remote, version } = this.#files[file]!;
    const begin = this.#beginOf(file, first);
    const end = Math.min(version.bytes, begin + count * blockBytes);
    const blocks = Array.from({ length: count }, (_, i) => this.#blockAt(first + i));
    for (const block of blocks) {
      block.state = "pending";
      block.slot = this.#free.pop()!;
    }
    this.#active++;
    let at = begin;
    let done = 0;
    const take = (bytes: Uint8Array): void => {
      for (let taken = 0; taken < bytes.length;) {
        const block = blocks[done]!;
        const start = begin + done * blockBytes;
        const blockEnd = Math.min(start + blockBytes, end);
        const length = Math.min(bytes.length - taken, blockEnd - at);
        this.#memory.set(
          bytes.subarray(taken, taken + length),
          block.slot! * blockBytes + at - start,
        );
        taken += length;
        at += length;
        if (at === blockEnd) {
          this.#arrived(file, { block: first + done, begin: start, end: blockEnd }, block);
          done++;
        }
      }
    };
    try {
      await readRemoteRange(remote, { begin, end }, take, {
        ...this.#options,
        version,
        redirects: this.#redirects,
      });
    } catch (error) {
      this.#hasFailed = true;
      for (const [i, block] of blocks.slice(done).entries()) {
        this.#freeSlot(block);
        this.#blocks.delete(first + done + i);
        for (const { reject } of block.waiters.splice(0)) reject(error);
      }
    } finally {
      this.#active--;
      this.#pump();
    }
  }

  #arrived(file: number, part: Part, block: Block): void {
    if (this.#spill !== null) {
      const at = block.slot! * this.#sizes.blockBytes;
      this.#spill.write(file, this.#memory.subarray(at, at + part.end - part.begin), part.begin);
      this.#freeSlot(block);
      block.state = "kept";
    } else {
      block.state = "ready";
      const { slot, wanted } = block;
      this.#table.open(slot!, this.#nameOf(file, part.block), part.end - part.begin, wanted);
      this.#held[slot!] = part.block;
      // The run that wanted it may be over.
      if (block.waiters.length === 0) this.#letGoIfDone(part.block, block);
    }
    for (const { resolve } of block.waiters.splice(0)) resolve();
  }

  #dropSchedule(): void {
    this.#queue = [];
    this.#asked = 0;
    for (const [index, block] of this.#blocks) {
      block.wanted = 0;
      if (block.state === "ready") {
        this.#table.forget(block.slot!);
        this.#letGoIfDone(index, block);
      } else if (block.state === "absent") this.#blocks.delete(index);
    }
  }

  /** Lets go of a block that is ready. */
  #letGoIfDone(index: number, block: Block): void {
    if (!this.#table.close(block.slot!)) return;
    this.#held[block.slot!] = null;
    this.#freeSlot(block);
    this.#blocks.delete(index);
  }

  #freeSlot(block: Block): void {
    if (block.slot !== null) this.#free.push(block.slot);
    block.slot = null;
  }

  #blockAt(index: number): Block {
    const known = this.#blocks.get(index);
    if (known !== undefined) return known;
    const block: Block = {
      state: "absent",
      wanted: 0,
      slot: null,
      waiters: [],
    };
    this.#blocks.set(index, block);
    return block;
  }

  #fileOf(block: number): number {
    return this.#firstBlock.findLastIndex((first) => first <= block);
  }

  #nameOf(file: number, block: number): BlockName {
    return { file, block: block - this.#firstBlock[file]! };
  }

  /** Place of a block in its file, in bytes. */
  #beginOf(file: number, block: number): number {
    return (block - this.#firstBlock[file]!) * this.#sizes.blockBytes;
  }

  /** Returns the parts of blocks that a range is made of. */
  #partsOf(file: number, begin: number, end: number): Part[] {
    const { blockBytes } = this.#sizes;
    const parts: Part[] = [];
    for (let at = begin; at < end;) {
      const index = Math.floor(at / blockBytes);
      const next = Math.min(end, (index + 1) * blockBytes);
      parts.push({ block: this.#firstBlock[file]! + index, begin: at, end: next });
      at = next;
    }
    return parts;
  }

  /** Returns a file that the server sends in one piece. */
  #wholeFile(file: number): WholeFile {
    const known = this.#whole.get(file);
    if (known !== undefined) return known;
    this.keep();
    const { file: remote, version } = this.#files[file]!;
    const whole = new WholeFile(
      file,
      this.#spill!,
      (onBytes) =>
        readRemoteRange(remote, { begin: 0, end: version.bytes }, onBytes, {
          ...this.#options,
          version,
          redirects: this.#redirects,
        }),
    );
    this.#whole.set(file, whole);
    return whole;
  }

  async #fetchExtent(file: number, range: ByteRange): Promise<Uint8Array<ArrayBuffer>> {
    const { file: remote, version } = this.#files[file]!;
    const bytes = new Uint8Array(range.end - range.begin);
    let done = 0;
    await readRemoteRange(remote, range, (part) => {
      bytes.set(part, done);
      done += part.length;
    }, { ...this.#options, version, redirects: this.#redirects });
    return bytes;
  }
}
