/**
 * A loss that lives elsewhere: a device keeps what it takes to move codes, and does the moving. Codes and
 * errors of a panel go there with every step and come back, so that the search around it is the same.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { Allocator, LinalgContext } from "../../linalg/context.ts";
import type { Layer, LossPlan, Moves, Objective } from "./layer.ts";

/** Work of a device for some rows of a layer. Both throw a DeviceError if it fails. */
export interface DescentDevice {
  /** Takes in all errors, f32 `[rows, cols]`. Returns the loss, squared. */
  measure(errors: Float32Array): number;
  /**
   * Moves codes of a panel to the other side of their weights if loss + penalty * cost falls.
   *
   * @param panel i8 and f32 `[rows, cols]`, contiguous, changed; columns `first ..` of the layer.
   * @returns what happened, and what the loss changed by.
   */
  descend(panel: DevicePanel): Moves & { readonly gain: number };
}

/** Some neighbouring columns, and what they may cost. */
export interface DevicePanel {
  readonly first: number;
  readonly cols: number;
  readonly codes: Int8Array;
  readonly errors: Float32Array;
  readonly penalty: number;
}

/** Counts what a {@link RemoteLoss} keeps for panels of `width` columns. */
export function planRemoteLoss(memory: CountedMemory, rows: number, width: number): LossPlan {
  roomForPanel(memory, rows, width);
  return { step: () => {}, moments: () => {} };
}

function roomForPanel(memory: Pick<Allocator, "i8" | "f32">, rows: number, width: number) {
  return { codes: memory.i8(rows * width), errors: memory.f32(rows * width) };
}

/** {@link Objective} of a device. */
export class RemoteLoss implements Objective {
  readonly unit: number;
  readonly #layer: Layer;
  readonly #device: DescentDevice;
  readonly #codes: Int8Array;
  readonly #errors: Float32Array;
  #loss = 0;

  /**
   * Takes memory of the context, which the caller gives back.
   *
   * @param width columns of the widest panel.
   */
  constructor(
    { memory }: Pick<LinalgContext, "memory">,
    layer: Layer,
    { device, unit, width }: {
      readonly device: DescentDevice;
      readonly unit: number;
      readonly width: number;
    },
  ) {
    this.unit = unit;
    this.#layer = layer;
    this.#device = device;
    const room = roomForPanel(memory, layer.grid.rows, width);
    this.#codes = room.codes;
    this.#errors = room.errors;
  }

  loss(): number {
    return Math.max(0, this.#loss);
  }

  measure(): number {
    this.#loss = this.#device.measure(this.#layer.errors.data);
    return this.loss();
  }

  descend(first: number, cols: number, penalty: number): Moves {
    const { grid, codes, errors } = this.#layer, { rows } = grid;
    const panel = {
      codes: this.#codes.subarray(0, rows * cols),
      errors: this.#errors.subarray(0, rows * cols),
    };
    for (let r = 0; r < rows; r++) {
      const from = r * grid.cols + first;
      panel.codes.set(codes.subarray(from, from + cols), r * cols);
      panel.errors.set(errors.data.subarray(from, from + cols), r * cols);
    }
    const { count, gain, cost } = this.#device.descend({ ...panel, first, cols, penalty });
    for (let r = 0; r < rows; r++) {
      const to = r * grid.cols + first, from = r * cols;
      codes.set(panel.codes.subarray(from, from + cols), to);
      errors.data.set(panel.errors.subarray(from, from + cols), to);
    }
    this.#loss += gain;
    return { count, cost };
  }
}
