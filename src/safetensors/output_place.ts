/** The files of an output by address. Apart from what makes them, which workers have no need to load. */

/** A file that workers write to, and the address of its first byte. */
export interface OutputPlace {
  /** The file that it becomes, for messages. */
  readonly output: string;
  readonly path: string;
  readonly startBytes: number;
  readonly totalBytes: number;
}

/** Returns the number of the file that has `address`. The places are in the order of their addresses. */
export function placeOf(places: readonly OutputPlace[], address: number): number {
  let low = 0;
  let high = places.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (places[middle]!.startBytes <= address) low = middle;
    else high = middle - 1;
  }
  return low;
}
