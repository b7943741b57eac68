/** packLevels: see `Kernels.packLevels`, `asm/pack_levels.ts`. */

import type { LevelPacking } from "../backend.ts";
import { checkPackLevels } from "../kernel_checks.ts";

/** packed = the codes of levels: nibbles, the even column low; then, of 6 bits, the two high ones of each. */
export function packLevels(packed: Uint8Array, levels: Int8Array, packing: LevelPacking): void {
  checkPackLevels(packed, levels, packing);
  const { bits, cols, groupCols, choices, codes } = packing;
  const rowBytes = cols * bits / 8;
  packed.fill(0);
  levels.forEach((level, i) => {
    const row = Math.floor(i / cols), col = i % cols;
    const code = codes[choices[Math.floor(i / groupCols)]! * 256 + level + 128]!;
    const low = row * rowBytes + (col >> 1);
    packed[low] = packed[low]! | (code & 15) << 4 * (col & 1);
    if (bits === 4) return;
    const high = row * rowBytes + (cols >> 1) + (col >> 2);
    packed[high] = packed[high]! | (code >> 4 & 3) << 2 * (col & 3);
  });
}
