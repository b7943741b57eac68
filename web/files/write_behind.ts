/** Few large writes from many small ones: each write to a file goes through several processes of a browser. */

/** Bytes of a block. */
const BLOCK_BYTES = 4 << 20;

/** Blocks that are held at once: workers write near one another, but not in order. */
const MOST_BLOCKS = 6;

interface Block {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Written ranges, sorted and apart: [from, to) within the block. */
  ranges: [number, number][];
}

/** Bytes that are to be written now. */
export interface Piece {
  readonly data: Uint8Array<ArrayBuffer>;
  readonly position: number;
}

/**
 * Collects writes in blocks and yields them when they are full, or when too many are held. The caller writes
 * each piece before it asks for the next one: its memory is used again.
 */
export class WriteBehind {
  readonly #blocks = new Map<number, Block>();
  readonly #free: Uint8Array<ArrayBuffer>[] = [];

  /** Takes a copy of `view`; yields what is to be written. */
  *take(view: Uint8Array, position: number): Generator<Piece, void> {
    let done = 0;
    while (done < view.length) {
      const at = position + done;
      const number = Math.floor(at / BLOCK_BYTES);
      const offset = at - number * BLOCK_BYTES;
      const count = Math.min(view.length - done, BLOCK_BYTES - offset);
      const block = this.#blocks.get(number) ?? (yield* this.#open(number));
      block.bytes.set(view.subarray(done, done + count), offset);
      block.ranges = joined(block.ranges, [offset, offset + count]);
      if (isFull(block)) yield* this.#close(number);
      done += count;
    }
  }

  /** Yields everything that is held. */
  *rest(): Generator<Piece, void> {
    for (const number of [...this.#blocks.keys()]) yield* this.#close(number);
  }

  *#open(number: number): Generator<Piece, Block> {
    // The one that was opened first.
    for (const oldest of this.#blocks.keys()) {
      if (this.#blocks.size < MOST_BLOCKS) break;
      yield* this.#close(oldest);
    }
    const block: Block = { bytes: this.#free.pop() ?? new Uint8Array(BLOCK_BYTES), ranges: [] };
    this.#blocks.set(number, block);
    return block;
  }

  *#close(number: number): Generator<Piece, void> {
    const { bytes, ranges } = this.#blocks.get(number)!;
    this.#blocks.delete(number);
    for (const [from, to] of ranges) {
      yield { data: bytes.subarray(from, to), position: number * BLOCK_BYTES + from };
    }
    this.#free.push(bytes);
  }
}

function isFull({ ranges }: Block): boolean {
  const [first] = ranges;
  return ranges.length === 1 && first![0] === 0 && first![1] === BLOCK_BYTES;
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
