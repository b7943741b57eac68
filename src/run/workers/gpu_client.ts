/** A worker's way to the GPU: asks its owner and waits for the answer in shared memory. */

import { type GpuCheck, WrongResultError } from "../checks/gpu_check.ts";
import type { GpuAccess, GpuRequest } from "../gpu_requests.ts";
import type { GpuPlacement } from "../gpu_tasks.ts";
import { type CheckModules, OwnCheckKernels } from "./check_kernels.ts";
import { giveUp, isOverdue, waitForCopies } from "./gpu_patience.ts";
import { GPU_ANSWER, GPU_STATE, type GpuTimes } from "./gpu_protocol.ts";

/** Means of a worker to reach the GPU. */
export interface GpuLink {
  readonly port: MessagePort;
  /** Int32 `[1]`: see GPU_ANSWER. */
  readonly answer: SharedArrayBuffer;
  /** Int32: see GPU_STATE. */
  readonly state: SharedArrayBuffer;
  readonly placement: GpuPlacement;
  /** For messages. */
  readonly adapterName: string;
  readonly times: GpuTimes;
}

/** How often a waiting worker looks whether the owner of the GPU is still there. */
const PATIENCE_MS = 200;

/** {@link GpuAccess} over a port. */
export class GpuClient implements GpuAccess {
  readonly #port: MessagePort;
  readonly #answer: Int32Array;
  readonly #state: Int32Array;
  readonly #adapterName: string;
  readonly #times: GpuTimes;
  readonly #checkKernels: OwnCheckKernels;
  /** Time of checks that is not in the cells yet. */
  #checkMs = 0;

  /** @param modules what answers are checked with. */
  constructor({ port, answer, state, adapterName, times }: GpuLink, modules: CheckModules) {
    this.#adapterName = adapterName;
    this.#times = times;
    this.#checkKernels = new OwnCheckKernels(modules);
    this.#port = port;
    this.#answer = new Int32Array(answer);
    this.#state = new Int32Array(state);
  }

  run(request: GpuRequest, check?: GpuCheck): boolean {
    if (this.#hasFailed) return false;
    this.#checking(() => check?.prepare?.());
    if (!this.#isDone(request)) return false;
    const wrong = this.#checking(() => check?.verify(this.#checkKernels) ?? null);
    if (wrong !== null) this.distrust(wrong);
    return true;
  }

  distrust(what: string): never {
    throw new WrongResultError(
      `Cannot trust ${this.#adapterName}: it computed ${what}; all it made is done again`,
    );
  }

  #isDone(request: GpuRequest): boolean {
    Atomics.store(this.#answer, 0, GPU_ANSWER.waiting);
    this.#port.postMessage(request);
    const askedMs = Date.now();
    for (;;) {
      Atomics.wait(this.#answer, 0, GPU_ANSWER.waiting, PATIENCE_MS);
      const answer = Atomics.load(this.#answer, 0);
      if (answer !== GPU_ANSWER.waiting) return answer === GPU_ANSWER.done;
      // An owner that died does not answer, which the main thread notices; one whose driver blocks it neither.
      if (isOverdue(this.#state, askedMs, this.#times)) giveUp(this.#state);
      if (this.#hasFailed) {
        waitForCopies(this.#state);
        // It may have been done just before.
        return Atomics.load(this.#answer, 0) === GPU_ANSWER.done;
      }
    }
  }

  /** Returns what `work` gives, and adds how long it takes to the time of all checks. */
  #checking<T>(work: () => T): T {
    const startedMs = performance.now();
    const result = work();
    this.#checkMs += performance.now() - startedMs;
    const units = Math.floor(this.#checkMs * 100);
    this.#checkMs -= units / 100;
    Atomics.add(this.#state, GPU_STATE.checked, units);
    return result;
  }

  get #hasFailed(): boolean {
    return Atomics.load(this.#state, GPU_STATE.failed) !== 0;
  }

  close(): void {
    this.#port.close();
  }
}
