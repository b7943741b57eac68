/**
 * The product of bytes for engines with relaxed SIMD (`asm/linalg/feed_back_relaxed.ts`): the same bits as that of
 * the linear algebra module, in a third of the time.
 */

import relaxedBase64 from "./feed_back_relaxed.wasm.b64" with { type: "text" };
import { bytesOfBase64 } from "./compile_module.ts";
import { instantiate } from "./instantiate.ts";
import type { FeedBackExport } from "./linalg_module.ts";

/** Null: the engine takes no such module; undefined: not asked yet. */
let compiled: WebAssembly.Module | null | undefined;

function compileRelaxed(): WebAssembly.Module | null {
  const bytes = bytesOfBase64(relaxedBase64);
  return WebAssembly.validate(bytes) ? new WebAssembly.Module(bytes) : null;
}

/**
 * Returns the product on `memory`; null if the engine cannot do it, or makes other sums of the largest bytes than
 * `plain` does.
 *
 * @param room address of 4 KiB that nobody uses meanwhile.
 */
export function relaxedFeedBack(
  memory: WebAssembly.Memory,
  plain: FeedBackExport,
  room: number,
): FeedBackExport | null {
  compiled = compiled === undefined ? compileRelaxed() : compiled;
  if (compiled === null) return null;
  const { feedBackI8 } = instantiate<{ feedBackI8: FeedBackExport }>(compiled, memory);
  return areSame(memory, [plain, feedBackI8], room) ? feedBackI8 : null;
}

/** Whether both products of 4 rows and 8 columns of 8 terms are the same. */
function areSame(
  { buffer }: WebAssembly.Memory,
  products: readonly FeedBackExport[],
  room: number,
): boolean {
  const rows = 4, cols = 8, terms = 8;
  const errors = new Int8Array(buffer, room, rows * terms);
  const factor = new Int8Array(buffer, room + 1024, cols * (terms + 4));
  const scales = new Float32Array(buffer, room + 2048, cols);
  errors.forEach((_, i) => errors[i] = i % 5 === 0 ? 1 : 127);
  factor.forEach((_, i) => factor[i] = i % 7 === 0 ? -127 : i % 3 === 0 ? 85 : 127);
  factor.fill(0, 0, 4 * cols); // sums begin with these
  scales.fill(1);
  const [one, other] = products.map((product, i) => {
    const c = new Float32Array(buffer, room + 3072 + 256 * i, rows * cols);
    const [e, l, s] = [errors, factor, scales].map(({ byteOffset }) => byteOffset);
    product(c.byteOffset, e!, s!, l!, s!, rows, cols, terms, cols, 0);
    return c;
  });
  return one!.every((value, i) => value === other![i]);
}
