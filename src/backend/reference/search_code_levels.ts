/** searchCodeLevels: see `Kernels.searchCodeLevels`, `asm/search_code_levels.ts`. */

import { type CodeLevelSearch, LEVEL_STEP_BYTES } from "../backend.ts";
import { checkCodeLevelSearch } from "../kernel_checks.ts";

/** choices[g] = the candidate set whose levels are nearest to the codes of group g. */
export function searchCodeLevels(
  choices: Uint8Array,
  codes: Int8Array,
  search: CodeLevelSearch,
): void {
  checkCodeLevelSearch(choices, codes, search);
  const { groupCols, steps, first, candidates } = search;
  for (let g = 0; g < choices.length; g++) {
    const group = codes.subarray(g * groupCols, (g + 1) * groupCols);
    const start = first[group.reduce((most, code) => Math.max(most, Math.abs(code)), 0)]!;
    let least = Infinity;
    for (let candidate = 0; candidate < candidates; candidate++) {
      const set = Math.max(0, start - candidate), at = set * LEVEL_STEP_BYTES;
      const middles = steps.subarray(at, at + 15), levels = steps.subarray(at + 16, at + 32);
      let error = 0;
      for (const code of group) {
        const level = levels[middles.reduce((count, middle) => count + Number(code > middle), 0)]!;
        error += Math.min(127, Math.max(-128, code - level)) ** 2;
      }
      if (error >= least) continue;
      least = error;
      choices[g] = set;
    }
  }
}
