/** Kernels of a thread that is not a worker. */

import { compileLinalg } from "../../backend/cpu/linalg_module.ts";
import { compileKernels } from "../../backend/cpu/wasm_module.ts";
import { OwnCheckKernels } from "./check_kernels.ts";

/**
 * Kernels that this thread has for itself.
 *
 * @param needsLinalg whether the linear algebra is among them.
 */
export function ownKernels({ needsLinalg }: { readonly needsLinalg: boolean }): OwnCheckKernels {
  const linalg = needsLinalg ? compileLinalg() : null;
  return new OwnCheckKernels({ kernels: compileKernels(), linalg });
}
