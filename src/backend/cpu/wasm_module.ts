/** The compiled kernels. */

import kernelsBase64 from "./kernels.wasm.b64" with { type: "text" };
import { compileModule } from "./compile_module.ts";

/**
 * Returns the compiled kernels. Compile once per process and post the module to the workers, which
 * share its code.
 */
export function compileKernels(): WebAssembly.Module {
  return compileModule(kernelsBase64);
}
