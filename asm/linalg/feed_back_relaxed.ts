/**
 * A module of its own, which only engines with relaxed SIMD take: the product of `feed_back_i8.ts` built with its
 * instruction, the same bits as the one in `index.ts`, in a third of the time.
 */

export { feedBackI8 } from "./feed_back_i8";
