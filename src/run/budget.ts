/**
 * Memory by planning: how many workers a run may have under `--memory-limit`, from what a worker's arena
 * takes for the tasks at hand. Pure arithmetic over measured constants.
 */

import { UnsupportedError } from "../core/errors.ts";

/** Resident memory of the runtime with the program loaded, in bytes (Deno 2.9 on Linux: 70 to 78 MB). */
export const RUNTIME_BYTES = 80e6;

/** Resident memory of a worker without its arena (12 MB measured), in bytes. */
export const WORKER_BYTES = 14e6;

/** Memory of planning, headers and events per tensor, in bytes. */
const TENSOR_BYTES = 4e3;

/** Limit of the arenas of all workers: a WebAssembly memory less the kernels' constants. */
export const SHARED_MAX_BYTES = 2 ** 32 - 2 ** 17;

/** Needs of a run. */
export interface Needs {
  readonly arenaBytes: number;
  /** Memory that the workers share in their WebAssembly memory, besides their arenas. */
  readonly teamBytes?: number;
  readonly tensorCount: number;
  /** Memory that all workers share: the LoRAs that are merged. */
  readonly sharedBytes?: number;
}

/** Returns the resident bytes that `workers` workers are expected to take in all. */
export function expectedBytes(
  { arenaBytes, teamBytes = 0, tensorCount, sharedBytes = 0 }: Needs,
  workers: number,
): number {
  return RUNTIME_BYTES + sharedBytes + teamBytes + TENSOR_BYTES * tensorCount +
    workers * (WORKER_BYTES + arenaBytes);
}

/**
 * Returns the number of workers, at most `wanted`, that fit `limitBytes` (null: no limit) and one
 * WebAssembly memory.
 *
 * @throws UnsupportedError if not even one fits, with the number it would need.
 */
export function workersWithin(
  needs: Needs,
  { wanted, limitBytes }: { wanted: number; limitBytes: number | null },
): number {
  const { arenaBytes, teamBytes = 0 } = needs;
  const free = SHARED_MAX_BYTES - teamBytes;
  if (arenaBytes > free) {
    throw new UnsupportedError(
      `Cannot work on the largest layer: it needs ${
        ((arenaBytes + teamBytes) / 1e9).toFixed(1)
      } GB of ` +
        "WebAssembly memory, and there are 4.3 GB; give it channel statistics instead of activations, " +
        "or leave it out of the calibration data",
    );
  }
  const most = Math.min(wanted, Math.floor(free / Math.max(1, arenaBytes)));
  if (limitBytes === null) return most;
  for (let workers = most; workers >= 1; workers--) {
    if (expectedBytes(needs, workers) <= limitBytes) return workers;
  }
  const megabytes = Math.ceil(expectedBytes(needs, 1) / 1e6);
  throw new UnsupportedError(
    `Cannot work within --memory-limit ${Math.floor(limitBytes / 1e6)}MB: ` +
      `this needs ${megabytes}MB with one worker`,
  );
}
