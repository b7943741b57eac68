/** Kernels of a thread that is not a worker. */

import { compileKernels } from "../../backend/cpu/wasm_module.ts";
import { OwnCheckKernels } from "./check_kernels.ts";

/** Kernels that this thread has for itself, without linear algebra. */
export function ownKernels(): OwnCheckKernels {
  return new OwnCheckKernels({ kernels: compileKernels(), linalg: null });
}
