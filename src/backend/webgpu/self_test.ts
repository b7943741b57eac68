/**
 * Whether this device computes what it should: every kernel on a small problem, compared with kernels that
 * are known to be right. Drivers have defects, and a wrong result is worse than a slow one.
 */

import { DeviceError } from "../../core/errors.ts";
import { randomFor } from "../../core/rng.ts";
import type { LinalgKernels } from "../../linalg/linalg_kernels.ts";
import type { Kernels } from "../backend.ts";
import type { Gpu } from "./device.ts";
import {
  type AnyKernels,
  type AnyLinalg,
  KERNEL_PROBLEMS,
  LINALG_PROBLEMS,
  type Result,
} from "./self_test_problems.ts";
import { STORAGE_PROBLEMS } from "./self_test_storage.ts";
import { WebGpuKernels } from "./webgpu_kernels.ts";
import { type GpuLinalgName, WebGpuLinalg } from "./webgpu_linalg.ts";

/** What came of one kernel. */
export interface KernelCheck {
  /** Name of the kernel, as in `Kernels` and `LinalgKernels`; and how operands are stored, if not in f32. */
  readonly kernel: string;
  readonly passed: boolean;
  /** For people: `same bits`, how near, the first wrong value, or why it could not run. */
  readonly detail: string;
}

/** Kernels that take arrays of any memory, as those of `backend/reference` do. */
export interface RightKernels {
  readonly kernels: Kernels;
  readonly linalg: Pick<LinalgKernels, GpuLinalgName>;
}

/**
 * Runs every kernel of `gpu` on a small problem and compares it with `right`. Takes a second or two, most of
 * it to compile. A device that fails makes checks that did not pass, not an error.
 */
export async function selfTest(gpu: Gpu, right: RightKernels): Promise<KernelCheck[]> {
  const checks: KernelCheck[] = [];
  const kernels = new WebGpuKernels(gpu), linalg = new WebGpuLinalg(gpu);
  for (const [kernel, problem] of Object.entries(KERNEL_PROBLEMS)) {
    const solve = (any: AnyKernels) => problem(any, randomFor(1, kernel));
    checks.push(await check(kernel, () => solve(kernels), await solve(right.kernels)));
  }
  for (const [kernel, problem] of Object.entries(LINALG_PROBLEMS)) {
    const solve = (any: AnyLinalg) => problem(any, randomFor(1, kernel));
    checks.push(await check(kernel, () => solve(linalg), await solve(right.linalg)));
  }
  for (const [kernel, { run, want }] of Object.entries(STORAGE_PROBLEMS)) {
    const wanted = await want(right.linalg, randomFor(1, kernel));
    checks.push(await check(kernel, () => run(gpu, randomFor(1, kernel)), wanted));
  }
  return checks;
}

async function check(
  kernel: string,
  solve: () => Promise<readonly Result[]>,
  want: readonly Result[],
): Promise<KernelCheck> {
  try {
    return { kernel, ...compare(await solve(), want) };
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    return { kernel, passed: false, detail: error.message };
  }
}

/** Compares all results, which are as many. */
function compare(got: readonly Result[], want: readonly Result[]): Omit<KernelCheck, "kernel"> {
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
