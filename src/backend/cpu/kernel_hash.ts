/** Identifies kernels: files that several processes write together must come from the same ones. */

import { createHash } from "node:crypto";
import kernelsBase64 from "./kernels.wasm.b64" with { type: "text" };
import linalgBase64 from "./linalg.wasm.b64" with { type: "text" };
import relaxedBase64 from "./feed_back_relaxed.wasm.b64" with { type: "text" };

/** Returns the first 12 hexadecimal digits of the SHA-256 of the kernels that this program has. */
export function kernelHash(): string {
  const hash = createHash("sha256");
  for (const text of [kernelsBase64, linalgBase64, relaxedBase64]) hash.update(text);
  return hash.digest("hex").slice(0, 12);
}
