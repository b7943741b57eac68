/**
 * How long the others wait for the owner of the GPU. Batches have deadlines, which the owner's own timers keep
 * (`backend/webgpu/deadlines.ts`). But a driver may block its thread for good, and no timer gets its turn:
 * the owner says beforehand when it will be done at the latest, and whoever waits looks at the clock.
 */

import { GPU_STATE, type GpuTimes } from "./gpu_protocol.ts";

/** Milliseconds for what is no batch, as opening a device; drivers of software compile long. */
const BASE_MS = 60_000;

const GRACE_MS = 30_000;

/** Values of the cell that reports a failure. */
export const GPU_FAILED = Object.freeze({
  no: 0,
  /** The owner has said why. */
  told: 1,
  /** The owner did not answer in time, and says nothing. */
  silent: 2,
});

/** Says that the owner will be done with what it has in so many milliseconds. */
export function promiseWithin(state: Int32Array, ms: number): void {
  Atomics.store(state, GPU_STATE.untilS, Math.ceil((Date.now() + ms) / 1000));
}

/** Whether an answer to what was asked at `askedMs` (of Date.now()) is overdue. */
export function isOverdue(
  state: Int32Array,
  askedMs: number,
  { baseMs = BASE_MS, graceMs = GRACE_MS }: GpuTimes,
): boolean {
  const promisedMs = 1000 * Atomics.load(state, GPU_STATE.untilS);
  return Date.now() > Math.max(promisedMs, askedMs + baseMs) + graceMs;
}

/** Gives the owner up: from now on it changes no memory. */
export function giveUp(state: Int32Array): void {
  Atomics.compareExchange(state, GPU_STATE.failed, GPU_FAILED.no, GPU_FAILED.silent);
}

/** Copying takes some milliseconds: an owner that has not ended it by then has come to a stop after it. */
const COPY_MS = 1000;

/** Waits until the owner, which has failed, has left the memory of others alone. */
export function waitForCopies(state: Int32Array): void {
  const startedMs = Date.now();
  while (Date.now() < startedMs + COPY_MS) {
    const copying = Atomics.load(state, GPU_STATE.copying);
    if (copying === 0) return;
    Atomics.wait(state, GPU_STATE.copying, copying, 10);
  }
}

/** Lets the owner copy results to the memory of others, as long as nobody has given it up. */
export function copyGuard(state: Int32Array) {
  const leave = (): void => {
    Atomics.sub(state, GPU_STATE.copying, 1);
    Atomics.notify(state, GPU_STATE.copying);
  };
  return {
    enter(): boolean {
      // First this, then the look: who gives up does it the other way round, so that one of both sees it.
      Atomics.add(state, GPU_STATE.copying, 1);
      if (Atomics.load(state, GPU_STATE.failed) === GPU_FAILED.no) return true;
      leave();
      return false;
    },
    leave,
  };
}
