/** Ways to damage bytes and headers, for the fuzzer: the same for the same dice. */

const encoder = new TextEncoder();

/** Seeded uniform integers (mulberry32): cases must be the same everywhere. */
export class Dice {
  #state: number;

  constructor(seed: number, caseNumber: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(caseNumber + 1, 0x85ebca6b)) >>> 0;
  }

  /** Returns an integer from 0 to `sides - 1`. */
  roll(sides: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % sides;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.roll(items.length)]!;
  }
}

/** Texts that a parser may trip over, put in anywhere. */
const TOKENS = [
  ...'{ } [ ] , : " \\ \\u0000 \\ud800 null true NaN -0 -1 0 1e5 1.0 0.5 1e999'.split(" "),
  ...'4294967296 9007199254740992 18446744073709551616 "a" "dtype" "F4" "F6_E2M3"'.split(" "),
  ...'"shape":[0] "data_offsets":[0,0] "__metadata__": "__proto__":{}, \n é ../ \ufeff'.split(" "),
  '"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},',
  "[".repeat(300),
  '{"a":'.repeat(150),
  "\u0000",
  "\u001b[31m",
  "  ",
].map((token) => encoder.encode(token));

/** Returns `bytes` with one small damage. */
function damage(bytes: Uint8Array, dice: Dice): Uint8Array {
  const at = dice.roll(bytes.length + 1);
  const end = Math.min(bytes.length, at + 1 + dice.roll(12));
  const splice = (middle: Uint8Array, from = at, to = at) =>
    Uint8Array.from([...bytes.subarray(0, from), ...middle, ...bytes.subarray(to)]);
  switch (dice.roll(8)) {
    case 0: // flip one bit
      return bytes.map((byte, i) => i === at ? byte ^ (1 << dice.roll(8)) : byte);
    case 1: // set one byte
      return bytes.map((byte, i) => i === at ? dice.roll(256) : byte);
    case 2: // leave some out
      return splice(new Uint8Array(0), at, end);
    case 3: // repeat some
      return splice(bytes.slice(at, end));
    case 4: // end early
      return bytes.slice(0, at);
    case 5: // replace a number
      return replaceNumber(bytes, dice);
    default: // put a token in, over some bytes or between them
      return splice(dice.pick(TOKENS), at, dice.roll(2) === 0 ? at : end);
  }
}

/** Replaces one run of digits by a number near it or far off. */
function replaceNumber(bytes: Uint8Array, dice: Dice): Uint8Array {
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  const runs = [...text.matchAll(/\d+/g)];
  if (runs.length === 0) return bytes;
  const run = dice.pick(runs);
  const value = Number(run[0]);
  const other = dice.pick([value + 1, value - 1, value + 4, value * 2, 0, 2 ** 31, 2 ** 53 - 1]);
  const digits = encoder.encode(String(other));
  return Uint8Array.from([
    ...bytes.subarray(0, run.index),
    ...digits,
    ...bytes.subarray(run.index + run[0].length),
  ]);
}

/** Returns `bytes` with one to three small damages. */
export function damaged(bytes: Uint8Array, dice: Dice): Uint8Array {
  let result = bytes;
  for (let count = 1 + dice.roll(3); count > 0; count--) result = damage(result, dice);
  return result;
}

/** Returns the JSON of a header with entries, or metadata, that say something else: still JSON. */
export function displaced(json: Uint8Array, dice: Dice): Uint8Array {
  const { __metadata__, ...entries } = JSON.parse(new TextDecoder().decode(json));
  const places = Object.values<{ data_offsets: number[] }>(entries).map((e) => e.data_offsets);
  for (const name of Object.keys(entries)) {
    if (dice.roll(4) > 0) continue;
    const entry = entries[name];
    switch (dice.roll(6)) {
      case 0: { // moved
        const by = dice.pick([-4, -1, 1, 4]);
        entry.data_offsets = entry.data_offsets.map((at: number) => at + by);
        break;
      }
      case 1: // larger or smaller, and so overlapping or leaving a hole
        entry.shape = [dice.roll(12)];
        entry.dtype = "U8";
        entry.data_offsets[1] = entry.data_offsets[0] + entry.shape[0];
        break;
      case 2: // where another is
        entry.data_offsets = [...dice.pick(places)];
        break;
      case 3:
        delete entries[name];
        break;
      case 4:
        entry[dice.pick(["dtype", "shape", "data_offsets", "more"])] = dice.pick(
          [null, -1, "F64", [], [0, 0], [2 ** 52, 2 ** 52], {}, [-0.5], true],
        );
        break;
      case 5:
        entries[name] = dice.pick([null, [], "x", {}, 5]);
        break;
    }
  }
  const metadata = dice.roll(3) > 0 ? __metadata__ : dice.pick([null, {}, { a: 1 }, [], "x"]);
  return encoder.encode(JSON.stringify({ ...entries, __metadata__: metadata }));
}
