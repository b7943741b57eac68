/** CRC-32 (the polynomial of zlib and PNG): finds every burst of up to 32 flipped bits. */

import * as zlib from "node:zlib";

/** Of the runtime; Node has it from 20.15 on. */
const native = (zlib as { readonly crc32?: (data: Uint8Array, before: number) => number }).crc32;

/** Bytes that one step of {@link plainCrc32} takes. */
const SLICES = 8;

/**
 * Returns the checksum of `bytes`, going on from that of what comes before.
 *
 * @param bytes any length, 0 included; may lie in shared memory.
 * @param before the checksum of what comes before; 0: nothing does.
 */
export function crc32(bytes: Uint8Array, before = 0): number {
  return native === undefined ? plainCrc32(bytes, before) : native(bytes, before);
}

let tables: readonly Uint32Array[] | undefined;

/** {@link crc32} for runtimes that lack it: eight tables, eight bytes per step. */
export function plainCrc32(bytes: Uint8Array, before = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables ??= makeTables();
  let crc = ~before, i = 0;
  for (const end = bytes.length - SLICES; i <= end; i += SLICES) {
    const x = crc ^
      (bytes[i]! | bytes[i + 1]! << 8 | bytes[i + 2]! << 16 | bytes[i + 3]! << 24);
    crc = t7![x & 255]! ^ t6![x >>> 8 & 255]! ^ t5![x >>> 16 & 255]! ^ t4![x >>> 24]! ^
      t3![bytes[i + 4]!]! ^ t2![bytes[i + 5]!]! ^ t1![bytes[i + 6]!]! ^ t0![bytes[i + 7]!]!;
  }
  for (; i < bytes.length; i++) crc = crc >>> 8 ^ t0![(crc ^ bytes[i]!) & 255]!;
  return ~crc >>> 0;
}

/** Table k: what a byte does to the checksum that is followed by k zero bytes. */
function makeTables(): Uint32Array[] {
  const first = Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >>> 1 ^ 0xedb88320 : crc >>> 1;
    return crc;
  });
  const made = [first];
  for (let k = 1; k < SLICES; k++) {
    made.push(made[k - 1]!.map((crc) => crc >>> 8 ^ first[crc & 255]!));
  }
  return made;
}
