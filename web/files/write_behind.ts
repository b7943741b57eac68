/** Few large writes from many small ones: each write to a picked file goes through several processes. */

/** Bytes of a block: one of 16 MiB takes a fifth less processor time than four of 4 MiB. */
export const WRITE_BLOCK_BYTES = 16 << 20;

/** Blocks that are held at once: workers write near one another, but not in order. */
const MOST_BLOCKS = 4;

/** Blocks that are being written at once, while others are filled. */
export const MOST_WRITES = 2;

interface Block {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Written ranges, sorted and apart: [from, to) within the block. */
  ranges: [number, number][];
}

/** Collects writes in blocks and hands them on when they are full, or when too many are held. */
export class WriteBehind {
  readonly #write: (data: Uint8Array<ArrayBuffer>, position: number) => Promise<void>;
  readonly #blocks = new Map<number, Block>();
  /** Writes that were begun, the oldest first. */
  readonly #writes: Promise<void>[] = [];
  /** Memory of blocks that were written. */
  readonly #spare: Uint8Array<ArrayBuffer>[] = [];

  /** @param write takes the bytes; carries out what it is given in order, though it is not waited for. */
  constructor(write: (data: Uint8Array<ArrayBuffer>, position: number) => Promise<void>) {
    this.#write = write;
  }

  /** Takes a copy of `view`. @throws what a write has thrown, this one or one before. */
  async write(view: Uint8Array, position: number): Promise<void> {
    let done = 0;
    while (done < view.length) {
      const at = position + done;
      const number = Math.floor(at / WRITE_BLOCK_BYTES);
      const offset = at - number * WRITE_BLOCK_BYTES;
      const count = Math.min(view.length - done, WRITE_BLOCK_BYTES - offset);
      const block = this.#blocks.get(number) ?? await this.#open(number);
      block.bytes.set(view.subarray(done, done + count), offset);
      block.ranges = joined(block.ranges, [offset, offset + count]);
      if (isFull(block)) await this.#close(number);
      done += count;
    }
  }

  /** Hands on everything; returns when all of it is written. */
  async flush(): Promise<void> {
    for (const number of [...this.#blocks.keys()]) await this.#close(number);
    await Promise.all(this.#writes.splice(0));
  }

  async #open(number: number): Promise<Block> {
    // The one that was opened first.
    for (const oldest of this.#blocks.keys()) {
      if (this.#blocks.size < MOST_BLOCKS) break;
      await this.#close(oldest);
    }
    const block: Block = {
      bytes: this.#spare.pop() ?? new Uint8Array(WRITE_BLOCK_BYTES),
      ranges: [],
    };
    this.#blocks.set(number, block);
    return block;
  }

  async #close(number: number): Promise<void> {
    const { bytes, ranges } = this.#blocks.get(number)!;
    this.#blocks.delete(number);
    const written = Promise.all(
      ranges.map(([from, to]) =>
        this.#write(bytes.subarray(from, to), number * WRITE_BLOCK_BYTES + from)
      ),
    ).then(() => void this.#spare.push(bytes));
    // Whoever waits for it learns of a failure; until then nobody does.
    written.catch(() => {});
    this.#writes.push(written);
    while (this.#writes.length > MOST_WRITES) await this.#writes.shift();
  }
}

function isFull({ ranges }: Block): boolean {
  const [first] = ranges;
  return ranges.length === 1 && first![0] === 0 && first![1] === WRITE_BLOCK_BYTES;
}

/** Returns `ranges` with `added`; those that touch become one. */
function joined(ranges: readonly [number, number][], added: [number, number]): [number, number][] {
  let [from, to] = added;
  const apart: [number, number][] = [];
  for (const [low, high] of ranges) {
    if (high < from || low > to) apart.push([low, high]);
    else [from, to] = [Math.min(from, low), Math.max(to, high)];
  }
  return [...apart, [from, to] as [number, number]].sort(([a], [b]) => a - b);
}
