/**
 * The worker that owns the GPU: takes requests of the others from their ports, several under way at a time,
 * and answers in shared memory. Loaded by `worker.ts` if its first message asks for it, so that other
 * workers do not pay for it.
 *
 * After the first failure nothing more is tried: a device that is lost stays lost, and one that is short of
 * memory, or cannot compile a shader, would fail again and again.
 */

import process from "node:process";
import { DeviceError } from "../../core/errors.ts";
import { plainError } from "../../core/plain_error.ts";
import { findAdapter } from "../../backend/webgpu/adapter.ts";
import { Deadlines } from "../../backend/webgpu/deadlines.ts";
import { Gpu } from "../../backend/webgpu/device.ts";
import { ownWebGpu } from "../../backend/webgpu/provide_webgpu.ts";
import { problemsOf, selfTest, testedKernels } from "../../backend/webgpu/self_test.ts";
import { referenceLinalg } from "../../backend/reference/linalg/reference_linalg.ts";
import { referenceKernels } from "../../backend/reference/reference_kernels.ts";
import type { GpuWork } from "../../backend/backend.ts";
import type { GpuRequest } from "../gpu_requests.ts";
import { GpuOperations } from "./gpu_operations.ts";
import {
  GPU_ANSWER,
  GPU_STATE,
  type GpuConnectMessage,
  type GpuProveMessage,
  type GpuReport,
  type GpuStartMessage,
} from "./gpu_protocol.ts";
import { copyGuard, GPU_FAILED, promiseWithin } from "./gpu_patience.ts";
import { cacheFolder, driverIdentity, ProvenDevice } from "./proven_devices.ts";

type Post = (report: GpuReport) => void;

/** Opens the device, says what it is, and returns what takes further messages. */
export async function ownGpu(
  { state, times }: GpuStartMessage,
  post: Post,
): Promise<(message: GpuConnectMessage | GpuProveMessage) => void> {
  const cells = new Int32Array(state);
  try {
    const adapter = await findAdapter();
    if (adapter === null) throw new DeviceError(`Cannot use a GPU: ${whyNone()}`);
    const promise = (ms: number) => promiseWithin(cells, ms);
    const gpu = await Gpu.open(adapter, new Deadlines({ ...times, promise }));
    gpu.copyGuard = copyGuard(cells);
    const owner = new GpuOwner(gpu, cells, post);
    const device = new ProvenDevice(
      [adapterIdentity(adapter), driverIdentity(), process.versions, testedKernels()],
      cacheFolder(process.env, process.platform),
    );
    const prove = async ({ work }: GpuProveMessage): Promise<void> => {
      const distrust = await distrustOf(gpu, device, work);
      if (distrust !== null) {
        gpu.fail(distrust);
        Atomics.store(cells, GPU_STATE.failed, GPU_FAILED.told);
      }
      post({ kind: "proven", distrust });
    };
    post({ kind: "ready", adapter: gpu.adapter });
    return (message) => {
      if (message.kind === "connect") owner.connect(message);
      else void prove(message);
    };
  } catch (error) {
    Atomics.store(cells, GPU_STATE.failed, GPU_FAILED.told);
    post({ kind: "unavailable", error: plainError(error) });
    return (message) => {
      if (message.kind === "connect") answerWith(message.answer, GPU_ANSWER.failed);
    };
  }
}

/** Names of kernels in a message. */
const NAMES_MAX = 3;

/** Identity of an adapter. */
function adapterIdentity({ info, features }: GPUAdapter): readonly unknown[] {
  const { vendor, architecture, device, description } = info;
  return [vendor, architecture, device, description, [...features].sort()];
}

/**
 * Returns why the device must not be used: it computes kernels wrongly on small problems with known results.
 * A driver may do so without any error, and what it made would look like every other file. Takes about 100
 * ms, most of it to compile what the run needs anyway; nothing if it was done before.
 */
async function distrustOf(
  gpu: Gpu,
  device: ProvenDevice,
  work: readonly GpuWork[],
): Promise<string | null> {
  const passed = device.passed();
  const problems = problemsOf(work).filter((problem) => !passed.has(problem));
  if (problems.length === 0) return null;
  const right = { kernels: referenceKernels, linalg: referenceLinalg };
  const checks = await selfTest(gpu, right, problems);
  device.remember(checks.filter((check) => check.passed).map(({ kernel }) => kernel));
  const wrong = checks.filter(({ passed }) => !passed);
  if (wrong.length === 0) return null;
  const names = wrong.slice(0, NAMES_MAX).map(({ kernel }) => kernel).join(", ");
  const rest = wrong.length - NAMES_MAX;
  return `Cannot trust ${gpu.adapter.name}: its self-test fails in ${names}` +
    (rest > 0 ? ` and ${rest} more` : "") +
    ` (${wrong[0]!.detail}); \`quantsmith doctor\` has the rest`;
}

function whyNone(): string {
  return ownWebGpu() !== null
    ? "there is no adapter, so no driver that WebGPU can use; `--device cpu` does without"
    : "this runtime has no WebGPU, Deno has, and Node with the package `webgpu`; " +
      "`--device cpu` does without";
}

class GpuOwner {
  readonly #gpu: Gpu;
  readonly #operations: GpuOperations;
  readonly #state: Int32Array;
  readonly #post: Post;

  constructor(gpu: Gpu, state: Int32Array, post: Post) {
    this.#gpu = gpu;
    this.#operations = new GpuOperations(gpu);
    this.#state = state;
    this.#post = post;
    void gpu.device.lost.then(() => {
      if (gpu.failure !== null) this.#fail(gpu.failure);
    });
  }

  connect({ port, memory, answer }: GpuConnectMessage): void {
    port.onmessage = async ({ data }: MessageEvent<GpuRequest>) => {
      try {
        this.#refuseAfterFailure();
        await this.#operations.carryOut(data, memory, port);
        Atomics.add(this.#state, GPU_STATE.done, 1);
        answerWith(answer, GPU_ANSWER.done);
      } catch (error) {
        this.#fail(error);
        answerWith(answer, GPU_ANSWER.failed);
      }
    };
  }

  #refuseAfterFailure(): void {
    if (Atomics.load(this.#state, GPU_STATE.failed) !== 0) throw this.#gpu.fail("it failed before");
  }

  /** Reports the first failure; those that follow from it are silent. */
  #fail(error: unknown): void {
    const { failed } = GPU_STATE, { no, told } = GPU_FAILED;
    if (Atomics.compareExchange(this.#state, failed, no, told) !== no) return;
    this.#post({ kind: "failed", error: plainError(error) });
  }
}

function answerWith(answer: SharedArrayBuffer, value: number): void {
  const cell = new Int32Array(answer);
  Atomics.store(cell, 0, value);
  Atomics.notify(cell, 0);
}
