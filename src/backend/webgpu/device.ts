/**
 * An open device: its pipelines, its buffers, and what became of it. Work goes to it as a {@link Batch}.
 */

import { DeviceError } from "../../core/errors.ts";
import { ADAPTER_LIMITS, type AdapterInfo, describeAdapter } from "./adapter.ts";
import { BufferPool } from "./buffer_pool.ts";
import { Deadlines } from "./deadlines.ts";
import type { Shader } from "./shader.ts";

/** Features that are used if the adapter has them. */
const WANTED_FEATURES: readonly GPUFeatureName[] = ["timestamp-query"];

/** Says whether results may still be copied: others may have given the device up, and use the memory. */
export interface CopyGuard {
  /** Whether copying may begin. */
  enter(): boolean;
  /** It has ended. */
  leave(): void;
}

/** A device, its pipelines and its buffers. Close it, or dispose it with `using`. */
export class Gpu {
  readonly adapter: AdapterInfo;
  readonly device: GPUDevice;
  readonly buffers: BufferPool;
  /** How long batches may take. */
  readonly deadlines: Deadlines;
  /** Guard that lets batches copy; see `CopyGuard`. */
  copyGuard: CopyGuard | null = null;
  /** Whether batches report how long their kernels ran; for measurements. */
  isTimed = false;
  readonly #pipelines = new Map<string, GPUComputePipeline>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  #failure: DeviceError | null = null;
  #closed = false;

  private constructor(adapter: AdapterInfo, device: GPUDevice, deadlines: Deadlines) {
    this.adapter = adapter;
    this.deadlines = deadlines;
    this.device = device;
    this.buffers = new BufferPool(device);
    void device.lost.then(({ message, reason }) => {
      if (!this.#closed) this.fail(`the device was lost: ${message || reason}`);
    });
  }

  /**
   * Opens the device of `adapter`, with all features and limits that the kernels can use.
   *
   * @param deadlines how long batches may take; by default generous even for a software driver.
   * @throws DeviceError if the adapter gives no device.
   */
  static async open(adapter: GPUAdapter, deadlines = new Deadlines()): Promise<Gpu> {
    const info = describeAdapter(adapter);
    const requiredFeatures = WANTED_FEATURES.filter((feature) => adapter.features.has(feature));
    const requiredLimits = Object.fromEntries(
      ADAPTER_LIMITS.map((limit) => [limit, adapter.limits[limit]]),
    );
    try {
      const descriptor = { label: "quantsmith", requiredFeatures, requiredLimits };
      return new Gpu(info, await adapter.requestDevice(descriptor), deadlines);
    } catch (cause) {
      throw new DeviceError(`Cannot open ${info.name}: ${messageOf(cause)}`, { cause });
    }
  }

  /** Why nothing more can be done on the device; null while it works. */
  get failure(): DeviceError | null {
    return this.#failure;
  }

  /** Marks the device as unusable, unless it is already. Returns the first reason. */
  fail(reason: string): DeviceError {
    this.#failure ??= new DeviceError(`Cannot compute on ${this.adapter.name}: ${reason}`);
    return this.#failure;
  }

  has(feature: GPUFeatureName): boolean {
    return this.device.features.has(feature);
  }

  /** The pipeline of `shader`, compiled once. Errors show in the error scope around. */
  pipeline(shader: Shader): GPUComputePipeline {
    const known = this.#pipelines.get(shader.name);
    if (known !== undefined) return known;
    const { device } = this;
    const label = shader.name;
    const module = device.createShaderModule({ label, code: shader.code });
    const layout = device.createPipelineLayout({
      label,
      bindGroupLayouts: [this.layout(shader)],
    });
    const pipeline = device.createComputePipeline({
      label,
      layout,
      compute: { module, entryPoint: "main" },
    });
    this.#pipelines.set(shader.name, pipeline);
    return pipeline;
  }

  /** Whether the pipeline of `shader` is there. */
  isCompiled(shader: Shader): boolean {
    return this.#pipelines.has(shader.name);
  }

  /** Takes a pipeline out again that turned out not to compile. */
  forget(shader: Shader): void {
    this.#pipelines.delete(shader.name);
  }

  /** The layout of the buffers of `shader`; shaders of the same kinds of buffers share one. */
  layout({ buffers }: Shader): GPUBindGroupLayout {
    const label = buffers.join();
    let layout = this.#layouts.get(label);
    if (layout === undefined) {
      const visibility = GPUShaderStage.COMPUTE;
      layout = this.device.createBindGroupLayout({
        label,
        entries: [
          { binding: 0, visibility, buffer: { type: "uniform", hasDynamicOffset: true } },
          ...buffers.map((kind, k): GPUBindGroupLayoutEntry => ({
            binding: k + 1,
            visibility,
            buffer: { type: kind === "read" ? "read-only-storage" : "storage" },
          })),
        ],
      });
      this.#layouts.set(label, layout);
    }
    return layout;
  }

  /** Gives the device back. */
  close(): void {
    this.#closed = true;
    this.device.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
