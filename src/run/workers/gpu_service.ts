/** The main thread's side of the GPU: starts the worker that owns it and connects the others with it. */

import process from "node:process";
import type { Worker } from "node:worker_threads";
import type { GpuWork } from "../../backend/backend.ts";
import type { AdapterInfo } from "../../backend/webgpu/adapter.ts";
import { DeviceError } from "../../core/errors.ts";
import { plainError } from "../../core/plain_error.ts";
import { type GpuPlacement, placementWithin } from "../gpu_tasks.ts";
import type { GpuLink } from "./gpu_client.ts";
import { giveUp, GPU_FAILED, isOverdue } from "./gpu_patience.ts";
import { GPU_STATE, type GpuMessage, type GpuReport, type GpuTimes } from "./gpu_protocol.ts";
import { reportedError } from "./error_classes.ts";
import { send, startWorker, threadError } from "./start_worker.ts";

/** How often the main thread looks whether the owner of the device has been given up. */
const WATCH_MS = 250;

/** Workers of devices that were closed; see {@link GpuService.close}. */
const idle = new Set<Worker>();

let leavesAtOnce = false;

/**
 * Has the process end without taking its threads down first. A worker that ends takes its device down while
 * the process takes the driver down, and drivers do not stand both at once: with Mesa's the output was
 * complete, but up to one run in three ended in a crash. For the same reason no device is taken down just
 * before the end.
 */
function leaveAtOnce(): void {
  if (leavesAtOnce) return;
  leavesAtOnce = true;
  process.once("exit", (code) => process.exit(code));
}

/** The part of a GPU in a conversion. */
export interface GpuShare {
  /** Which one, by the name its driver gives. */
  readonly adapter: string;
  /** Operations that it did. */
  readonly operations: number;
  /** Why it did nothing more from then on; null: it worked to the end. */
  readonly failure: string | null;
}

/** A GPU at work. Close it, or the process stays. */
export class GpuService {
  readonly adapter: AdapterInfo;
  /** Limits of operations on it. */
  readonly placement: GpuPlacement;
  readonly #worker: Worker;
  readonly #state: Int32Array;
  #failure: string | null = null;
  #onFailure: ((message: string) => void) | null = null;
  #proven: (() => void) | null = null;
  readonly #times: GpuTimes;
  readonly #watch: ReturnType<typeof setInterval>;

  private constructor(
    adapter: AdapterInfo,
    placement: GpuPlacement,
    { worker, state, times }: { worker: Worker; state: Int32Array; times: GpuTimes },
  ) {
    this.#times = times;
    this.#watch = setInterval(() => void this.failure, WATCH_MS);
    (this.#watch as { unref?: () => void }).unref?.();
    this.adapter = adapter;
    this.placement = placement;
    this.#worker = worker;
    this.#state = state;
    worker.on("message", (report: GpuReport) => {
      if (report.kind === "failed") this.#fail(report.error.message);
      else if (report.kind === "proven") {
        if (report.distrust !== null) this.#fail(report.distrust);
        this.#proven?.();
      }
    });
    worker.on("error", (error) => {
      this.#fail(threadError("Cannot use the GPU any more", error).message);
      this.#proven?.();
    });
  }

  /**
   * Opens the GPU of this machine.
   *
   * @param workerUrl URL of `src/run/workers/worker.ts`, built in the main module.
   * @param placementOf what the device is given, by what it is; absent: all that fits and pays.
   * @param times how long it may take; by default generous.
   * @throws DeviceError if there is none, or it cannot be opened.
   */
  static async start(
    workerUrl: URL,
    placementOf: (adapter: AdapterInfo) => GpuPlacement = ({ limits }) => placementWithin(limits),
    times: GpuTimes = {},
  ): Promise<GpuService> {
    for (const worker of idle) worker.terminate();
    idle.clear();
    leaveAtOnce();
    const worker = startWorker(workerUrl);
    const state = new Int32Array(new SharedArrayBuffer(4 * GPU_STATE.length));
    let watch: ReturnType<typeof setInterval> | undefined;
    const report = await new Promise<GpuReport>((resolve) => {
      worker.once("message", resolve);
      worker.once("error", (error) => {
        resolve({
          kind: "unavailable",
          error: plainError(threadError("Cannot start the GPU", error)),
        });
      });
      const start: GpuMessage = { kind: "gpu", state: state.buffer as SharedArrayBuffer, times };
      worker.postMessage(start);
      const startedMs = Date.now();
      watch = setInterval(() => {
        if (!isOverdue(state, startedMs, times)) return;
        const error = plainError(
          new DeviceError("Cannot start the GPU: its driver does not answer"),
        );
        resolve({ kind: "unavailable", error });
      }, WATCH_MS);
    });
    clearInterval(watch);
    if (report.kind === "ready") {
      const { adapter } = report;
      return new GpuService(adapter, placementOf(adapter), { worker, state, times });
    }
    worker.terminate();
    if (report.kind === "proven") throw new DeviceError("Cannot start the GPU");
    throw deviceError(reportedError(report.error));
  }

  /** How many requests the device has done. */
  get doneCount(): number {
    return Atomics.load(this.#state, GPU_STATE.done);
  }

  /** How many seconds the workers checked its answers, added up. */
  get checkedSeconds(): number {
    return Atomics.load(this.#state, GPU_STATE.checked) / 1e5;
  }

  /** Why it does nothing any more; null while it works. */
  get failure(): string | null {
    const state = Atomics.load(this.#state, GPU_STATE.failed);
    if (this.#failure === null && state === GPU_FAILED.silent) {
      this.#fail(`Cannot compute on ${this.adapter.name}: its driver does not answer any more`);
      this.#proven?.();
    }
    return this.#failure;
  }

  /** Its work since {@link doneCount} was `doneBefore`. */
  shareSince(doneBefore: number): GpuShare {
    const operations = this.doneCount - doneBefore;
    return { adapter: this.adapter.name, operations, failure: this.failure };
  }

  /** Calls `listener` with the first failure, also one that has been. */
  set onFailure(listener: (message: string) => void) {
    this.#onFailure = listener;
    if (this.#failure !== null) listener(this.#failure);
  }

  /** A way to the device for one worker, for the length of a run with `memory`. */
  connect(memory: WebAssembly.Memory): GpuLink {
    const { port1, port2 } = new MessageChannel();
    const answer = new SharedArrayBuffer(4);
    const message: GpuMessage = { kind: "connect", port: port2, memory, answer };
    send(this.#worker, message, [port2]);
    const state = this.#state.buffer as SharedArrayBuffer;
    const { placement, adapter: { name: adapterName } } = this;
    return { port: port1, answer, state, placement, adapterName, times: this.#times };
  }

  /**
   * Whether the device computes rightly what `work` needs: on small problems with known results, or as
   * remembered from an earlier run. A device that does not has failed from then on. One call at a time.
   */
  async prove(work: readonly GpuWork[]): Promise<boolean> {
    if (work.length > 0 && this.failure === null) {
      let watch: ReturnType<typeof setInterval> | undefined;
      await new Promise<void>((resolve) => {
        this.#proven = resolve;
        const message: GpuMessage = { kind: "prove", work };
        this.#worker.postMessage(message);
        const askedMs = Date.now();
        watch = setInterval(() => {
          if (isOverdue(this.#state, askedMs, this.#times)) giveUp(this.#state);
          void this.failure;
        }, WATCH_MS);
      });
      clearInterval(watch);
    }
    return this.failure === null;
  }

  /** Gives the device up: what it computed is wrong. */
  distrust(message: string): void {
    this.#fail(message);
  }

  #fail(message: string): void {
    const { failed } = GPU_STATE;
    Atomics.compareExchange(this.#state, failed, GPU_FAILED.no, GPU_FAILED.told);
    if (this.#failure !== null) return;
    this.#failure = message;
    this.#onFailure?.(message);
  }

  /**
   * Lets go of the device. Its worker stays idle, without keeping the process, until the next device is
   * opened or the process ends; see {@link leaveAtOnce}.
   */
  close(): void {
    clearInterval(this.#watch);
    this.#worker.unref();
    idle.add(this.#worker);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Whatever keeps the device from being used is a failure of the device: `--device auto` continues without it. */
function deviceError(cause: Error): DeviceError {
  return cause instanceof DeviceError ? cause : new DeviceError(cause.message, { cause });
}
