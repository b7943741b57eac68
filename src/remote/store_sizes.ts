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

/** Four requests of 2 MiB under way fill a gigabit line 60 ms away. */
export const DEFAULT_SIZES: StoreSizes = Object.freeze({
  blockBytes: 1 << 20,
  requestBlocks: 2,
  connections: 4,
  windowBlocks: 12,
  urgentBlocks: 2,
});
