/**
 * Work for a device: inputs, kernels, outputs, recorded first and submitted at once. The wait for results
 * (about 10 ms on some drivers) is paid once per batch, not once per kernel; several batches may be under
 * way. Inputs are uploaded straight from the memory they lie in, outputs are copied straight to where they
 * belong.
 */

import { bytesOf } from "../../core/bytes.ts";
import { DeviceError } from "../../core/errors.ts";
import type { Gpu } from "./device.ts";
import { bufferBytes, dispatchSize, packParams, type Shader } from "./shader.ts";
import { uploadable } from "./provide_webgpu.ts";
import { elapsedMs, startTimer, type Timer, TIMER_BYTES } from "./timer.ts";

/** A buffer of a batch, from when it runs until it is done. */
export interface Slot {
  readonly label: string;
  readonly bytes: number;
}

/** A buffer that outlives batches. The one who made it destroys it. */
export interface ResidentSlot extends Slot {
  readonly buffer: GPUBuffer;
}

interface Step {
  readonly shader: Shader;
  readonly slots: readonly Slot[];
  readonly params: Uint8Array<ArrayBuffer>;
  readonly size: readonly [number, number];
}

/** Uniform buffers are bound at multiples of this on every device. */
const UNIFORM_STEP = 256;

const STORAGE = 0x80 | 0x04 | 0x08; // STORAGE | COPY_SRC | COPY_DST
const UNIFORM = 0x40 | 0x08; // UNIFORM | COPY_DST
const STAGING = 0x01 | 0x08; // MAP_READ | COPY_DST

/** How long after a failure the loss of a device is known. */
const LOSS_DELAY_MS = 20;

/** Cost of a batch. */
export interface BatchTimes {
  /** Milliseconds that the kernels ran; null if the device does not report it. */
  readonly kernelMs: number | null;
}

/** One batch. Record, then `run` once. */
export class Batch {
  readonly #label: string;
  readonly #steps: Step[] = [];
  readonly #slots = new Set<Slot>();
  readonly #uploads = new Map<Slot, ArrayBufferView>();
  readonly #zeros = new Set<Slot>();
  readonly #downloads: { slot: Slot; into: ArrayBufferView }[] = [];

  /** @param label what the work is for; appears in messages of the driver. */
  constructor(label: string) {
    this.#label = label;
  }

  /** A buffer that holds the bytes of `view` as they are when the batch runs. */
  input(label: string, view: ArrayBufferView): Slot {
    const slot = this.scratch(label, view.byteLength);
    this.#uploads.set(slot, view);
    return slot;
  }

  /** A buffer of `bytes`, contents unspecified. */
  scratch(label: string, bytes: number): Slot {
    const slot = { label: `${this.#label} ${label}`, bytes };
    this.#slots.add(slot);
    return slot;
  }

  /** A buffer of `bytes` that begins as zeros. */
  zeros(label: string, bytes: number): Slot {
    const slot = this.scratch(label, bytes);
    this.#zeros.add(slot);
    return slot;
  }

  /** A small buffer that begins with `words`. */
  words(label: string, words: readonly number[]): Slot {
    return this.input(label, Uint32Array.from(words));
  }

  /** Runs `shader` with at least `workgroups` workgroups, after all that was dispatched before. */
  dispatch<P extends string>(
    shader: Shader<P>,
    slots: readonly Slot[],
    params: Readonly<Record<P, number>>,
    workgroups: number,
  ): void {
    if (slots.length !== shader.buffers.length) {
      throw new TypeError(
        `Cannot dispatch ${shader.name}: ${slots.length} buffers, needs ${shader.buffers.length}`,
      );
    }
    if (workgroups === 0) return;
    const size = dispatchSize(workgroups);
    this.#steps.push({ shader, slots, params: packParams(shader, params), size });
  }

  /** Copies the first bytes of `slot` to all of `into` when everything has run. */
  output(slot: Slot, into: ArrayBufferView): void {
    this.#downloads.push({ slot, into });
  }

  /**
   * Submits the work and waits for its outputs.
   *
   * @throws DeviceError if anything fails: a shader does not compile, memory does not suffice, the
   * device is lost. Outputs are unspecified then.
   */
  async run(gpu: Gpu): Promise<BatchTimes> {
    if (gpu.failure !== null) throw gpu.failure;
    const { device } = gpu;
    const owned: GPUBuffer[] = [];
    const take = (label: string, bytes: number, usage: number): GPUBuffer => {
      const buffer = gpu.buffers.take(label, bytes, usage);
      owned.push(buffer);
      return buffer;
    };
    const workgroups = this.#steps.reduce((sum, { size: [x, y] }) => sum + x * y, 0);
    using deadline = gpu.deadlines.start(workgroups, (waitedMs) => {
      const seconds = (waitedMs / 1000).toFixed(waitedMs < 10_000 ? 1 : 0);
      return gpu.fail(`it did not answer within ${seconds} s (${this.#label})`);
    }, new Set(this.#steps.map(({ shader }) => shader).filter((one) => !gpu.isCompiled(one))).size);
    for (const filter of ["internal", "out-of-memory", "validation"] as const) {
      device.pushErrorScope(filter);
    }
    let staging: Staging | null = null;
    let thrown: unknown;
    try {
      staging = this.#submit(gpu, take);
    } catch (error) {
      thrown = error;
    }
    const scopes = [device.popErrorScope(), device.popErrorScope(), device.popErrorScope()];
    try {
      const errors = await deadline.within(Promise.all(scopes));
      const error = errors.find((error) => error !== null);
      if (error) throw this.#failureOf(error.message, error);
      if (thrown !== undefined) throw this.#failureOf(messageOf(thrown), thrown);
      const times = await deadline.within(this.#receive(gpu, staging!));
      owned.forEach((buffer) => gpu.buffers.give(buffer));
      return times;
    } catch (error) {
      // The state of the buffers is not known.
      owned.forEach((buffer) => gpu.buffers.drop(buffer));
      for (const { shader } of this.#steps) gpu.forget(shader);
      // A loss shows first as work that is not valid, and a little later as what it is.
      await new Promise((resolve) => setTimeout(resolve, LOSS_DELAY_MS));
      if (gpu.failure !== null) throw gpu.failure;
      throw error instanceof DeviceError ? error : this.#failureOf(messageOf(error), error);
    }
  }

  #failureOf(reason: string, cause: unknown): DeviceError {
    return new DeviceError(`Cannot compute ${this.#label} on the GPU: ${reason}`, { cause });
  }

  #submit(gpu: Gpu, take: (label: string, bytes: number, usage: number) => GPUBuffer): Staging {
    const { device } = gpu;
    const encoder = device.createCommandEncoder({ label: this.#label });
    const buffers = new Map<Slot, GPUBuffer>();
    for (const slot of this.#slots) {
      buffers.set(slot, take(slot.label, bufferBytes(slot.bytes), STORAGE));
    }
    const bufferOf = (slot: Slot): GPUBuffer => buffers.get(slot) ?? (slot as ResidentSlot).buffer;
    for (const [slot, view] of this.#uploads) upload(device.queue, bufferOf(slot), view);
    for (const slot of this.#zeros) {
      encoder.clearBuffer(bufferOf(slot), 0, bufferBytes(slot.bytes));
    }
    const timer = gpu.isTimed ? startTimer(device) : null;
    const uniforms = take(
      `${this.#label} parameters`,
      Math.max(1, this.#steps.length) * UNIFORM_STEP,
      UNIFORM,
    );
    const params = new Uint8Array(Math.max(1, this.#steps.length) * UNIFORM_STEP);
    this.#steps.forEach((step, k) => params.set(step.params, k * UNIFORM_STEP));
    device.queue.writeBuffer(uniforms, 0, params);
    const pass = encoder.beginComputePass({
      label: this.#label,
      ...(timer === null ? {} : { timestampWrites: timer.writes }),
    });
    this.#steps.forEach(({ shader, slots, size }, k) => {
      pass.setPipeline(gpu.pipeline(shader));
      const group = device.createBindGroup({
        label: shader.name,
        layout: gpu.layout(shader),
        entries: [
          { binding: 0, resource: { buffer: uniforms, offset: 0, size: UNIFORM_STEP } },
          ...slots.map((slot, j) => ({
            binding: j + 1,
            resource: { buffer: bufferOf(slot), offset: 0, size: bufferBytes(slot.bytes) },
          })),
        ],
      });
      pass.setBindGroup(0, group, [k * UNIFORM_STEP]);
      pass.dispatchWorkgroups(...size);
    });
    pass.end();
    const total = this.#downloads.reduce((sum, { into }) => sum + bufferBytes(into.byteLength), 0);
    const staging = take(`${this.#label} results`, total + TIMER_BYTES, STAGING);
    let at = 0;
    for (const { slot, into } of this.#downloads) {
      const bytes = bufferBytes(into.byteLength);
      encoder.copyBufferToBuffer(bufferOf(slot), 0, staging, at, bytes);
      at += bytes;
    }
    timer?.resolve(encoder, staging, at);
    device.queue.submit([encoder.finish()]);
    return { buffer: staging, bytes: at, timer };
  }

  async #receive(gpu: Gpu, { buffer, bytes, timer }: Staging): Promise<BatchTimes> {
    const length = bytes + (timer === null ? 0 : TIMER_BYTES);
    if (length === 0) return { kernelMs: null };
    await buffer.mapAsync(GPUMapMode.READ, 0, length);
    // Too late: others have done the work meanwhile, and the memory is theirs.
    if (gpu.failure !== null) throw gpu.failure;
    const { copyGuard } = gpu;
    if (copyGuard !== null) {
      if (!copyGuard.enter()) throw gpu.fail("others do not wait for it any more");
      // Not before the one who asked has put results that came in parts together.
      setTimeout(() => copyGuard.leave());
    }
    const mapped = new Uint8Array(buffer.getMappedRange(0, length));
    let at = 0;
    for (const { into } of this.#downloads) {
      bytesOf(into).set(mapped.subarray(at, at + into.byteLength));
      at += bufferBytes(into.byteLength);
    }
    const kernelMs = timer === null ? null : elapsedMs(mapped.slice(at, at + TIMER_BYTES));
    timer?.end();
    buffer.unmap();
    return { kernelMs };
  }
}

interface Staging {
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  readonly timer: Timer | null;
}

/** Writes the bytes of `view` to a buffer, whole words at a time: a last part of one is filled with zeros. */
function upload(queue: GPUQueue, buffer: GPUBuffer, view: ArrayBufferView): void {
  const bytes = uploadable(view);
  const whole = bytes.length - bytes.length % 4;
  if (whole > 0) queue.writeBuffer(buffer, 0, bytes, 0, whole);
  if (whole === bytes.length) return;
  const rest = new Uint8Array(4);
  rest.set(bytes.subarray(whole));
  queue.writeBuffer(buffer, whole, rest);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
