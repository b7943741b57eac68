/** Work of the owner of the GPU for the others, request by request. */

import { unitLowerPanel } from "../../backend/reference/linalg/unit_lower_panel.ts";
import { FACTOR_BLOCK, GpuFactor } from "../../backend/webgpu/gpu_factor.ts";
import { GpuGram } from "../../backend/webgpu/gpu_gram.ts";
import type { OutputRows } from "../../backend/output_rows.ts";
import type { Gpu } from "../../backend/webgpu/device.ts";
import { type GpuRowLevels, ldlqRows } from "../../backend/webgpu/ldlq_rows.ts";
import { outputErrors } from "../../backend/webgpu/output_errors.ts";
import { floatsRect, quantizeRect, type RectLevels } from "../../backend/webgpu/quantize_rect.ts";
import { WebGpuLinalg } from "../../backend/webgpu/webgpu_linalg.ts";
import { matrix } from "../../linalg/matrix.ts";
import { type GptqFactor, unitLowerColumns } from "../../quant/gptq.ts";
import {
  type AddedRows,
  type DescentCall,
  type FactorRequest,
  type FloatsRequest,
  type GpuRequest,
  type LdlqRequest,
  type LinalgRequest,
  type MemoryPlace,
  type MomentsRequest,
  type OffloadedKernels,
  type Packed,
  type QuantizeRequest,
  type RequestedLevels,
  type RequestedRounding,
  type RequestedSet,
  unpackArrays,
} from "../gpu_requests.ts";
import { GpuDescents } from "./gpu_descents.ts";

/** A place as the arguments of the constructor of a view. */
function at(buffer: ArrayBuffer, { offsetBytes, length }: MemoryPlace) {
  return [buffer, offsetBytes, length] as const;
}

function levelsAt(
  { groupCols, choices, nearest, search }: RequestedLevels,
  buffer: ArrayBuffer,
): GpuRowLevels {
  return {
    groupCols,
    choices: new Uint8Array(...at(buffer, choices)),
    nearest: new Int8Array(...at(buffer, nearest)),
    search: search && { first: new Uint8Array(...at(buffer, search.first)) },
  };
}

function roundingAt(request: RequestedRounding | RequestedSet, buffer: ArrayBuffer): RectLevels {
  if (request.kind === "one") {
    const { kind, groupCols, most, nearest, shares, choices } = request;
    const one = { kind, groupCols, most, nearest: new Int8Array(...at(buffer, nearest)) };
    return {
      rounding: { ...one, shares: shares && Float32Array.from(shares) },
      choices: new Uint8Array(...at(buffer, choices)),
    };
  }
  const { kind, groupCols, steps, first, choices } = request;
  const shared = { groupCols, first: new Uint8Array(...at(buffer, first)) };
  return {
    rounding: kind === "table"
      ? { ...shared, kind, steps: new Int8Array(...at(buffer, steps)) }
      : { ...shared, kind, steps: new Uint8Array(...at(buffer, steps)) },
    choices: new Uint8Array(...at(buffer, choices)),
  };
}

/** Carries out requests on one device, and keeps the factors between them. */
export class GpuOperations {
  readonly #gpu: Gpu;
  readonly #linalg: WebGpuLinalg;
  readonly #descents: GpuDescents;
  readonly #factors = new Map<string, GpuFactor>();
  #gram: { readonly size: number; readonly sum: GpuGram } | null = null;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.#linalg = new WebGpuLinalg(gpu);
    this.#descents = new GpuDescents(gpu);
  }

  /**
   * Carries out what came over `port`, which stands for the worker that asks.
   *
   * @throws DeviceError if the device fails.
   */
  async carryOut(
    request: GpuRequest,
    memory: WebAssembly.Memory,
    port: MessagePort,
  ): Promise<void> {
    const { buffer } = memory;
    switch (request.op) {
      case "quantize":
        return await this.#quantize(request, buffer);
      case "floats":
        return await this.#floats(request, buffer);
      case "linalg":
        return await this.#kernel(request, buffer);
      case "factor":
        return await this.#keepFactor(request, buffer);
      case "ldlq":
        return await this.#ldlq(request, buffer);
      case "moments":
        return await this.#moments(request, buffer);
      case "drop":
        return this.#drop(request.name);
      case "measure": {
        const rows = unpackArrays<OutputRows>(request.rows, buffer);
        return await outputErrors(this.#gpu, rows);
      }
      case "descent":
        await this.#descents.run(port, unpackArrays<DescentCall>(request.call, buffer));
    }
  }

  async #quantize(request: QuantizeRequest, buffer: ArrayBuffer): Promise<void> {
    await quantizeRect(this.#gpu, {
      ...request,
      raw: new Uint8Array(...at(buffer, request.raw)),
      changes: request.changes.map((change) => unpackArrays<AddedRows>(change, buffer)),
      levels: request.levels === undefined ? undefined : roundingAt(request.levels, buffer),
      codes: new Int8Array(...at(buffer, request.codes)),
      scales: new Float32Array(...at(buffer, request.scales)),
    });
  }

  async #floats(request: FloatsRequest, buffer: ArrayBuffer): Promise<void> {
    await floatsRect(this.#gpu, {
      ...request,
      raw: new Uint8Array(...at(buffer, request.raw)),
      changes: request.changes.map((change) => unpackArrays<AddedRows>(change, buffer)),
      codes: new Uint8Array(...at(buffer, request.codes)),
      groupScales: new Uint8Array(...at(buffer, request.groupScales)),
    });
  }

  async #kernel(request: LinalgRequest, buffer: ArrayBuffer): Promise<void> {
    const linalg = this.#linalg, { kernel } = request;
    switch (kernel) {
      case "gemmF32":
        return await linalg.gemmF32(...this.#argsOf<"gemmF32">(request.args, buffer));
      case "gemmI8":
        return await linalg.gemmI8(...this.#argsOf<"gemmI8">(request.args, buffer));
      case "hadamardRows":
        return await linalg.hadamardRows(...this.#argsOf<"hadamardRows">(request.args, buffer));
      case "hadamardColumns":
        await linalg.hadamardColumns(...this.#argsOf<"hadamardColumns">(request.args, buffer));
    }
  }

  #argsOf<K extends keyof OffloadedKernels>(
    args: Packed<OffloadedKernels[K]>,
    buffer: ArrayBuffer,
  ): OffloadedKernels[K] {
    return unpackArrays<OffloadedKernels[K]>(args, buffer);
  }

  async #keepFactor(request: FactorRequest, buffer: ArrayBuffer): Promise<void> {
    const { name, size, blockSize, order, storage } = request;
    this.#drop(name);
    const factor: Pick<GptqFactor, "values" | "blockSize"> = {
      values: new Float64Array(...at(buffer, request.values)),
      blockSize,
    };
    const into = {
      panel: new Float32Array(blockSize * Math.min(blockSize, FACTOR_BLOCK)),
      diagonal: new Float64Array(FACTOR_BLOCK),
    };
    const source = {
      ...{ size, blockSize, order },
      column: (first: number, width: number) =>
        unitLowerColumns({ unitLowerPanel }, factor, { first, width, into }),
    };
    this.#factors.set(name, await GpuFactor.upload(this.#gpu, source, storage));
  }

  async #ldlq(request: LdlqRequest, buffer: ArrayBuffer): Promise<void> {
    const factor = this.#factors.get(request.name);
    if (factor === undefined) throw new RangeError(`Cannot round ${request.name}: no factor`);
    const weights = new Float32Array(...at(buffer, request.weights));
    await ldlqRows(factor, {
      weights,
      codes: new Int8Array(...at(buffer, request.codes)),
      errors: request.errors ? weights : null,
      scales: new Float32Array(...at(buffer, request.scales)),
      firstRow: request.firstRow,
      grid: request.grid,
      levels: request.levels === undefined ? undefined : levelsAt(request.levels, buffer),
      // All rows at once: results are then copied only if all of them are there.
      sliceBytes: Infinity,
    });
  }

  async #moments(request: MomentsRequest, buffer: ArrayBuffer): Promise<void> {
    if (request.step === "begin") {
      this.#gram?.sum.destroy(); // of a layer that was given up
      this.#gram = null;
      const { size } = request;
      this.#gram = { size, sum: await GpuGram.create(this.#gpu, size) };
      return;
    }
    if (this.#gram === null) throw new RangeError("Cannot sum up moments: nothing was begun");
    const { size, sum } = this.#gram;
    if (request.step === "add") {
      await sum.add(new Float32Array(...at(buffer, request.inputs)));
      return;
    }
    await sum.addTo(matrix(new Float64Array(...at(buffer, request.into)), size, size));
    sum.destroy();
    this.#gram = null;
  }

  #drop(name: string): void {
    this.#factors.get(name)?.destroy();
    this.#factors.delete(name);
  }
}
