/** How many workers a command that only reads or restores gets. */

import { workersWithin } from "../run/budget.ts";
import { defaultWorkers } from "../run/workers/default_workers.ts";
import { fetchBytesFor } from "../run/workers/fetch_bytes.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import type { Parsed } from "./parse.ts";

/** Arena of the largest chunk that is only decoded, compared or cast: two F64 matrices as f32, in bytes. */
const ARENA_BYTES = 28 << 20;

/**
 * Returns the number of workers for what is read.
 *
 * @throws UnsupportedError if `--memory-limit` is too small for one.
 */
export function poolSize(
  parsed: Parsed,
  models: readonly Pick<ModelSource, "tensors" | "paths">[],
): number {
  const tensorCount = models.reduce((sum, { tensors }) => sum + tensors.length, 0);
  const sharedBytes = fetchBytesFor(models.flatMap(({ paths }) => paths));
  const wanted = parsed.bool("low-memory") ? 1 : parsed.number("workers") ?? defaultWorkers();
  const limitBytes = parsed.number("memory-limit");
  return workersWithin({ arenaBytes: ARENA_BYTES, tensorCount, sharedBytes }, {
    wanted,
    limitBytes,
  });
}
