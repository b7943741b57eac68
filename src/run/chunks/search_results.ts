/** Findings of workers in the bands of a layer, in memory that all of them see. */

import type { SearchResult, StopReason } from "../../quant/learned/learned_rounding.ts";
import type { Scratch } from "./chunk_context.ts";

const STOPS: readonly StopReason[] = ["iterations", "loss", "lr", "stall", "converged", "exact"];

/** Numbers of a band before its trajectory: whether it is there, then those of a result. */
const HEAD = 8;

/** Steps of a trajectory that are kept. */
const STEPS_MAX = 4096;

/** Results by band. */
export class SearchResults {
  readonly #values: Float64Array;
  readonly #stride: number;
  readonly #steps: number;

  /** Every worker makes one, of the same sizes, from shared memory. */
  constructor(shared: Pick<Scratch, "f64">, bands: number, iterations: number) {
    this.#steps = Math.min(STEPS_MAX, iterations);
    this.#stride = HEAD + 2 * this.#steps;
    this.#values = shared.f64(bands * this.#stride);
  }

  /** Of band `index`, by whoever did it. */
  set(index: number, result: SearchResult): void {
    const at = index * this.#stride, { losses, rates } = result;
    this.#values.set([
      1,
      STOPS.indexOf(result.stop),
      result.steps,
      result.lossBefore,
      result.lossAfter,
      result.errorBefore,
      result.errorAfter,
      result.moved,
    ], at);
    this.#values.set(losses.slice(0, this.#steps), at + HEAD);
    this.#values.set(rates.slice(0, this.#steps), at + HEAD + this.#steps);
  }

  /** Marks every band as not done. By one worker, before a barrier. */
  clear(): void {
    for (let at = 0; at < this.#values.length; at += this.#stride) this.#values[at] = 0;
  }

  /** The results of the bands that are done, in order. */
  all(): SearchResult[] {
    const found: SearchResult[] = [];
    for (let at = 0; at < this.#values.length; at += this.#stride) {
      const [done = 0, stop = 0, steps = 0, lossBefore = 0, lossAfter = 0] = this.#values.subarray(
        at,
        at + HEAD,
      );
      if (done === 0) continue;
      const kept = Math.min(steps, this.#steps), from = at + HEAD;
      found.push({
        stop: STOPS[stop]!,
        steps,
        lossBefore,
        lossAfter,
        errorBefore: this.#values[at + 5]!,
        errorAfter: this.#values[at + 6]!,
        moved: this.#values[at + 7]!,
        losses: [...this.#values.subarray(from, from + kept)],
        rates: [...this.#values.subarray(from + this.#steps, from + this.#steps + kept)],
      });
    }
    return found;
  }
}
