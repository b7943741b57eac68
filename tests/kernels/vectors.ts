/** Reads `tests/vectors`, which `scripts/gen_vectors.ts` writes. */

import fs from "node:fs";
import type { NumberArray } from "./subject.ts";

const CONSTRUCTORS = {
  f32: Float32Array,
  f64: Float64Array,
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  u32: Uint32Array,
};

type ArrayOf<Type extends keyof typeof CONSTRUCTORS> = InstanceType<(typeof CONSTRUCTORS)[Type]>;

/** An array in a vector file: its type and the base64 of its little-endian bytes. */
export type Packed<Type extends keyof typeof CONSTRUCTORS> = readonly [type: Type, base64: string];

/** Returns the cases of the kernel `stem`. */
export function readVectors<Case>(stem: string): (Case & { name: string })[] {
  const url = new URL(`../vectors/${stem}.json`, import.meta.url);
  return JSON.parse(fs.readFileSync(url, "utf8")).cases;
}

/** Returns the array that `packed` holds. */
export function unpack<Type extends keyof typeof CONSTRUCTORS>(
  packed: Packed<Type>,
): ArrayOf<Type> {
  const bytes = Uint8Array.fromBase64(packed[1]);
  const array: NumberArray = new CONSTRUCTORS[packed[0]](bytes.buffer);
  return array as ArrayOf<Type>;
}
