/**
 * Checks second moments that a GPU sums up: some elements are summed up here, too, in f64, while the inputs go
 * by. Cost: {@link ELEMENTS} multiply-adds per row of inputs, however many channels there are.
 */

import { FLUSHED, sumTolerance } from "./product_check.ts";
import { type GpuCheck, randomOf, spread } from "./gpu_check.ts";

/** Elements that are checked. */
const ELEMENTS = 24;

/** The sums of one layer. */
export class MomentsCheck implements GpuCheck {
  readonly #name: string;
  readonly #size: number;
  readonly #into: Float64Array;
  /** Row, and column no larger than it. */
  readonly #places: readonly (readonly [number, number])[];
  readonly #sums = new Float64Array(ELEMENTS);
  readonly #magnitudes = new Float64Array(ELEMENTS);
  #rows = 0;

  /** @param into f64 `[size, size]`, zero before the device adds to its lower triangle. */
  constructor(name: string, size: number, into: Float64Array) {
    this.#name = name;
    this.#size = size;
    this.#into = into;
    const random = randomOf(name);
    const rows = spread(size, ELEMENTS, random);
    this.#places = rows.map((row) => [row, random() % (row + 1)]);
  }

  /** Takes in f32 `[rows, size]`. */
  add(inputs: Float32Array): void {
    const rows = inputs.length / this.#size;
    this.#rows += rows;
    for (const [index, [i, j]] of this.#places.entries()) {
      let sum = 0, magnitude = 0;
      for (let at = 0; at < inputs.length; at += this.#size) {
        const term = inputs[at + i]! * inputs[at + j]!;
        sum += term;
        magnitude += Math.abs(term);
      }
      this.#sums[index]! += sum;
      this.#magnitudes[index]! += magnitude;
    }
  }

  verify(): string | null {
    for (const [index, [i, j]] of this.#places.entries()) {
      const got = this.#into[i * this.#size + j]!, want = this.#sums[index]!;
      const magnitude = this.#magnitudes[index]!;
      // Beyond f32: who asked sees it and does without the device.
      if (magnitude > 1e38) continue;
      const allowed = sumTolerance(this.#rows) * magnitude + FLUSHED;
      if (Math.abs(got - want) <= allowed) continue;
      return `second moments of ${this.#name} wrong (at ${i}, ${j} ${got} instead of ${want})`;
    }
    return null;
  }
}
