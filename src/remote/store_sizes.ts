/** How much a store of blocks fetches ahead, and the memory that takes. */

/** Sizes of a store. */
export interface StoreSizes {
  /** Bytes that are let go together. */
  readonly blockBytes: number;
  /** Most blocks of one request. */
  readonly requestBlocks: number;
  /** Requests at a time. */
  readonly connections: number;
  /** Most blocks that are fetched ahead. */
  readonly windowBlocks: number;
  /** Blocks besides, for those that are asked for out of turn. */
  readonly urgentBlocks: number;
}

/** Returns how many blocks may be in memory. */
export function slotsOf({ windowBlocks, urgentBlocks }: StoreSizes): number {
  return windowBlocks + urgentBlocks;
}

/** Returns the memory that blocks take. */
export function storeBytes(sizes: StoreSizes): number {
  return sizes.blockBytes * slotsOf(sizes);
}

/**
 * Four requests of 4 MiB under way fill a gigabit line 120 ms away. The window holds ten chunks of bf16:
 * with less, workers wait if they and the thread that fetches share two cores.
 */
export const DEFAULT_SIZES: StoreSizes = Object.freeze({
  blockBytes: 1 << 20,
  requestBlocks: 4,
  connections: 4,
  windowBlocks: 20,
  urgentBlocks: 2,
});
