/** The choice of sets of levels as a GPU makes it, on the CPU: see `wgsl/choose_levels.wgsl`. */

import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { LEVEL_CANDIDATES } from "../../src/backend/backend.ts";
import type { LinalgContext } from "../../src/linalg/context.ts";
import type { LdlqLevels, LinalgKernels } from "../../src/linalg/linalg_kernels.ts";

/**
 * Returns `context` with sets chosen for a whole block of columns before it is rounded: each by the errors of its own
 * group, for its weights with what later blocks feed back into them.
 */
export function choosingAsDevices(context: LinalgContext): LinalgContext {
  const { kernels } = context;
  // Methods of frozen objects and of classes alike, bound one by one.
  const own = new Proxy({} as LinalgKernels, {
    get: (_, name) => {
      if (name === "ldlqLevels") {
        return (args: LdlqLevels) => {
          chooseSets(args);
          kernels.ldlqLevels({ ...args, levels: { ...args.levels, search: null } });
        };
      }
      const value: unknown = Reflect.get(kernels, name, kernels);
      return typeof value === "function" ? value.bind(kernels) : value;
    },
  });
  return { ...context, kernels: own };
}

function chooseSets({ weights, feedback, scales, firstRow, levels }: LdlqLevels): void {
  const { search, choices, across, columnSets, nearest } = levels;
  if (!search) return;
  const { rows, cols } = weights, { groupCols, first } = search;
  const target = Float32Array.from({ length: rows * cols }, (_, at) => {
    const r = Math.floor(at / cols), j = at % cols;
    return weights.data[r * weights.rowStride + j]! + feedback.data[r * feedback.rowStride + j]!;
  });
  const found = new Uint8Array(rows * cols / groupCols);
  referenceKernels.searchLevels(
    found,
    target,
    scales.slice(firstRow, firstRow + rows),
    { rows, cols, groupRows: 1, groupCols: cols },
    { groupCols, first, nearest, candidates: LEVEL_CANDIDATES },
  );
  found.forEach((set, at) => {
    const r = Math.floor(at * groupCols / cols), j = at * groupCols % cols;
    choices[(firstRow + r) * across + columnSets[j]!] = set;
  });
}
