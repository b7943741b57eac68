/**
 * Seeded random numbers: sfc32 (Chris Doty-Humphrey's small fast counter), integer arithmetic only, so that
 * every engine gives the same. A tensor's numbers come from (seed, its name), never from loop order.
 */

/** Returns uniform integers in 0 .. 2^32 - 1. */
export type Random = () => number;

/**
 * Returns the generator of a tensor.
 *
 * @param seed what the user chose, a whole number from 0 to 2^53 - 1.
 * @param name of the tensor.
 */
export function randomFor(seed: number, name: string): Random {
  let a = hash(name, 0x811c9dc5), b = seed >>> 0, c = Math.floor(seed / 2 ** 32) >>> 0;
  let counter = 1;
  const next: Random = () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum | 0;
    return sum >>> 0;
  };
  for (let k = 0; k < 12; k++) next(); // until every bit of the seed has reached every bit of the state
  return next;
}

/** FNV-1a over the UTF-16 units of `text`. */
function hash(text: string, basis: number): number {
  let h = basis;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    h = Math.imul(h ^ (unit & 0xff), 0x01000193);
    h = Math.imul(h ^ (unit >>> 8), 0x01000193);
  }
  return h >>> 0;
}

/**
 * Fills `out` with nearly normal numbers of mean 0 and deviation 1: sums of twelve random bytes, which no
 * logarithm or cosine of an engine has a part in.
 */
export function fillNormal(out: Float32Array, next: Random): void {
  for (let i = 0; i < out.length; i++) {
    let sum = 0;
    for (let word = 0; word < 3; word++) {
      const bits = next();
      sum += (bits & 0xff) + ((bits >>> 8) & 0xff) + ((bits >>> 16) & 0xff) + (bits >>> 24);
    }
    out[i] = (sum - 1530) / 256;
  }
}
