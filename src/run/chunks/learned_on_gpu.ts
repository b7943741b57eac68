/** Learned rounding with data on the GPU: where codes are moved; the search stays here. */

import { DeviceError } from "../../core/errors.ts";
import type { Layer } from "../../quant/learned/layer.ts";
import type { DescentDevice, MomentBlocks } from "../../quant/learned/learned_rounding.ts";
import { DescentCheck } from "../checks/descent_check.ts";
import type { GpuCheck } from "../checks/gpu_check.ts";
import { type DescentCall, type GpuAccess, packArrays } from "../gpu_requests.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { Scratch, TeamContext } from "./chunk_context.ts";

/**
 * Columns of the smallest blocks of moments. Waiting for a step takes about 10 ms on some drivers; a core of a
 * CPU takes as long for a step of 256 rows and blocks of this size, and longer in proportion to it.
 */
const LEAST_BLOCK = 1024;

/** Takes what {@link MomentsOnGpu} keeps. */
export function planMomentsOnGpu(shared: Pick<Scratch, "f64">): Float64Array {
  return shared.f64(1);
}

/** Takes what a device of rows keeps. */
export function planDevice(
  scratch: Pick<Scratch, "f32" | "f64">,
  { rows, cols }: { readonly rows: number; readonly cols: number },
): { readonly gradient: Float32Array; readonly totals: Float64Array } {
  return { gradient: scratch.f32(rows * cols), totals: scratch.f64(3) };
}

/** The moments of a layer on the GPU, for the workers of a team. */
export class MomentsOnGpu {
  readonly #team: TeamContext;
  readonly #moments: MomentBlocks;
  /** The number that the device has given them; 0: they are not there. */
  readonly #id: Float64Array;

  /** Uploads them if the task is marked for the GPU and they fit. Every worker calls it; has a barrier. */
  constructor(team: TeamContext, { onGpu }: QuantizeTask, moments: MomentBlocks) {
    const { linalg, gpu, shared } = team;
    this.#team = team;
    this.#moments = moments;
    this.#id = planMomentsOnGpu(shared);
    if (linalg.team.index === 0) {
      this.#id[0] = 0;
      const fits = onGpu !== undefined && moments.blockSize >= LEAST_BLOCK &&
        moments.values.length <= onGpu.maxElements;
      const call = { kind: "moments", ...moments, id: this.#id } as const;
      if (gpu && fits && !ask(gpu, call)) this.#id[0] = 0;
    }
    linalg.team.barrier();
  }

  /**
   * Makes a device of rows with memory of `scratch`; null: the CPU has to move their codes.
   *
   * @param name says which rows.
   */
  device(scratch: Scratch, name: string): ((layer: Layer) => DescentDevice) | null {
    const { gpu } = this.#team, id = this.#id[0]!;
    if (!gpu || id === 0) return null;
    return ({ grid, scales, columnGroups }) => {
      require(gpu, { kind: "rows", id, grid, scales, columnGroups });
      const { gradient, totals } = planDevice(scratch, grid);
      const check = new DescentCheck({ name, grid, scales, columnGroups }, this.#moments);
      return {
        measure: (errors) => {
          require(gpu, { kind: "measure", errors, gradient }, check.measured(errors, gradient));
          // The search goes by it: it is not the device's word.
          let loss = 0;
          for (let i = 0; i < errors.length; i++) loss += errors[i]! * gradient[i]!;
          return loss;
        },
        descend: (panel) => {
          totals.fill(0);
          const followed = check.descended(panel, totals);
          require(gpu, { kind: "descend", ...panel, totals }, followed);
          const [count, gain, cost] = totals;
          return { count: count!, gain: gain!, cost: cost! };
        },
      };
    };
  }

  /** Gives the memory of the device back. One worker calls it, when all are done. */
  forget(): void {
    const { gpu } = this.#team;
    if (gpu && this.#id[0] !== 0) ask(gpu, { kind: "forget" });
  }
}

function ask(gpu: GpuAccess, call: DescentCall, check?: GpuCheck): boolean {
  return gpu.run({ op: "descent", call: packArrays(call) }, check);
}

function require(gpu: GpuAccess, call: DescentCall, check?: GpuCheck): void {
  if (!ask(gpu, call, check)) {
    throw new DeviceError("Cannot continue learned rounding: the GPU failed");
  }
}
