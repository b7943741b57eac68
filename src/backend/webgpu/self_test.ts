/**
 * Whether this device computes what it should: every kernel on a small problem, compared with kernels that
 * are known to be right. Drivers have defects, and a wrong result is worse than a slow one.
 */

import { DeviceError } from "../../core/errors.ts";
import { randomFor } from "../../core/rng.ts";
import type { GpuWork } from "../backend.ts";
import type { Gpu } from "./device.ts";
import { DEVICE_PROBLEMS } from "./self_test_device.ts";
import {
  KERNEL_PROBLEMS,
  LINALG_PROBLEMS,
  type Result,
  type RightKernels,
} from "./self_test_problems.ts";
import * as matrixShaders from "./matrix_shaders.ts";
import * as shaders from "./shaders.ts";
import { WebGpuKernels } from "./webgpu_kernels.ts";
import { WebGpuLinalg } from "./webgpu_linalg.ts";

export type { RightKernels };

/** Result of one kernel. */
export interface KernelCheck {
  /** Name of the kernel, as in `Kernels` and `LinalgKernels`; and how operands are stored, if not in f32. */
  readonly kernel: string;
  readonly passed: boolean;
  /** Whether the kernel promises the same bits. Otherwise a tolerance is allowed. */
  readonly isExact: boolean;
  /** For people: `same bits`, how near, the first wrong value, or why it could not run. */
  readonly detail: string;
}

/** What columns in another order take. */
const ORDERED = ["gatherColumns", "gatherCodes"] as const;

/** The problems that concern each kind of work. */
const PROBLEMS_OF: Readonly<Record<GpuWork, readonly string[]>> = {
  rounding: ["decode", "absmax", "scaleFromAbsmax", "quantize"],
  "searching scales": ["searchScale"],
  rotating: ["rotate"],
  "rotating large groups": ["rotate in stages"],
  merging: ["addLowRank", "feedBack"],
  "rounding to tables": ["decode", "absmax", "scaleFromAbsmax", "roundToTable"],
  "rounding to steps": ["decode", "absmax", "scaleFromAbsmax", "roundToSteps"],
  "rounding to one set": ["decode", "absmax", "scaleFromAbsmax", "quantizeLevels"],
  "searching clips": ["searchClip"],
  "rounding to floats": ["decode", "roundFloats"],
  moments: ["gemmF32"],
  compensation: ["gemmF32", "ldlqBlock", ...ORDERED],
  "compensation in f16": ["gemmF32 of f16", "ldlqBlock of f16", ...ORDERED],
  "compensation on levels": ["gemmF32", "ldlqLevels", ...ORDERED],
  "compensation on levels in f16": ["gemmF32 of f16", "ldlqLevels of f16", ...ORDERED],
  learning: ["gemmF32", "descendRows"],
  measuring: [
    ...["gemmF32", "errorStats", "gemmI8", "scaledProduct"],
    ...["absmax", "scaleFromAbsmax", "quantize", "rotate"],
  ],
  products: ["gemmF32"],
  "int8 products": ["gemmI8"],
  transforms: ["hadamardRows", "hadamardColumns"],
};

/** Every problem by the name of its kernel. */
const PROBLEMS: ReadonlyMap<string, Solver> = new Map([
  ...Object.entries(KERNEL_PROBLEMS).map(([kernel, problem]): [string, Solver] => [kernel, {
    run: (gpu) => problem(new WebGpuKernels(gpu), randomFor(1, kernel)),
    want: ({ kernels }) => problem(kernels, randomFor(1, kernel)),
  }]),
  ...Object.entries(LINALG_PROBLEMS).map(([kernel, problem]): [string, Solver] => [kernel, {
    run: (gpu) => problem(new WebGpuLinalg(gpu), randomFor(1, kernel)),
    want: ({ linalg }) => problem(linalg, randomFor(1, kernel)),
  }]),
  ...Object.entries(DEVICE_PROBLEMS).map(([kernel, { run, want }]): [string, Solver] => [kernel, {
    run: (gpu) => run(gpu, randomFor(1, kernel)),
    want: (right) => want(right, randomFor(1, kernel)),
  }]),
]);

interface Solver {
  run(gpu: Gpu): Promise<readonly Result[]>;
  want(right: RightKernels): readonly Result[] | Promise<readonly Result[]>;
}

/** Returns the names of the problems that `work` needs; null: of all. */
export function problemsOf(work: Iterable<GpuWork> | null): string[] {
  if (work === null) return [...PROBLEMS.keys()];
  return [...new Set([...work].flatMap((one) => PROBLEMS_OF[one]))].sort();
}

/** Everything that a pass depends on besides the device: the text of all shaders, and of the problems. */
export function testedKernels(): readonly string[] {
  const all = [...Object.values(shaders), ...matrixShaders.matrixShaders];
  return [...all.map(({ code }) => code), ...PROBLEMS.keys()];
}

/** Problems that are under way at a time. */
const AT_A_TIME = 4;

/**
 * Runs kernels of `gpu` on small problems and compares them with `right`. Takes a second or two for all of
 * them, most of it to compile. A device that fails makes checks that did not pass, not an error.
 *
 * @param names of problems; by default all.
 */
export async function selfTest(
  gpu: Gpu,
  right: RightKernels,
  names: readonly string[] = problemsOf(null),
): Promise<KernelCheck[]> {
  const checks: KernelCheck[] = [];
  // A few at a time: waits are shared, and no batch waits for the shaders of all others to compile.
  for (let first = 0; first < names.length; first += AT_A_TIME) {
    checks.push(
      ...await Promise.all(
        names.slice(first, first + AT_A_TIME).map(async (kernel) => {
          const { run, want } = PROBLEMS.get(kernel)!;
          const solved = run(gpu);
          solved.catch(() => {}); // it is looked at below
          return await check(kernel, solved, await want(right));
        }),
      ),
    );
  }
  return checks;
}

async function check(
  kernel: string,
  solved: Promise<readonly Result[]>,
  want: readonly Result[],
): Promise<KernelCheck> {
  const isExact = want.every(({ tolerance }) => tolerance === 0);
  try {
    return { kernel, isExact, ...compare(await solved, want) };
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    return { kernel, isExact, passed: false, detail: error.message };
  }
}

/** Compares all results, which are as many. */
function compare(
  got: readonly Result[],
  want: readonly Result[],
): Pick<KernelCheck, "passed" | "detail"> {
  let worst = 0, allowed = 0;
  for (const [k, { values, tolerance }] of want.entries()) {
    const found = got[k]!.values;
    const largest = Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (let i = 0; i < values.length; i++) {
      if (Object.is(found[i], values[i])) continue;
      const off = largest === 0 ? Infinity : Math.abs(found[i]! - values[i]!) / largest;
      // Not the other way round: the distance may be NaN.
      if (!(off <= tolerance)) {
        const where = want.length === 1 ? `${i}` : `${i} of result ${k}`;
        return { passed: false, detail: `at ${where}: ${found[i]}, should be ${values[i]}` };
      }
      worst = Math.max(worst, off);
      allowed = tolerance;
    }
  }
  if (worst === 0) return { passed: true, detail: "same bits" };
  return {
    passed: true,
    detail: `within ${worst.toExponential(0)} of the reference, allowed is ${
      allowed.toExponential(0)
    }`,
  };
}
