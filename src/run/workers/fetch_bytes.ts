/** Memory of the threads that fetch from servers: planned without their code. */

import type { InputPath } from "../../remote/input_path.ts";
import { DEFAULT_SIZES, storeBytes } from "../../remote/store_sizes.ts";

/** Resident memory of a thread that fetches, with its blocks and what is on its way, in bytes (50 MB measured). */
const FETCH_BYTES = storeBytes(DEFAULT_SIZES) + 28e6;

/** Returns the resident bytes that fetching `paths` takes: one thread per model on a server. */
export function fetchBytesFor(paths: readonly InputPath[]): number {
  const channels = paths.flatMap((path) => typeof path === "string" ? [] : [path.channel.id]);
  return FETCH_BYTES * new Set(channels).size;
}
