/**
 * Checks learned rounding on a GPU: of every band, some rows are followed. Their gradient is worked out in
 * f64 and
 * changed by every move the device makes, and every decision of the device is held to the rule: a code
 * moves if that lowers the loss, and stays if it does not, up to the rounding of f32. All codes and
 * errors that come back are held to what a move may do.
 *
 * Cost: for the gradient K B multiply-adds, B the size of a block of moments, twice per band; then a few
 * operations per element of a panel. A search takes thousands of steps.
 */

import type { Grid } from "../../backend/backend.ts";
import type { MomentBlocks } from "../../quant/learned/learned_rounding.ts";
import type { DevicePanel } from "../../quant/learned/remote.ts";
import { FLUSHED, sumTolerance } from "./product_check.ts";
import { type GpuCheck, randomOf } from "./gpu_check.ts";

/** The rows that are checked: see `Layer` of `quant/learned/layer.ts`. */
export interface CheckedRows {
  readonly name: string;
  readonly grid: Grid;
  readonly scales: Float32Array;
  readonly columnGroups: Int32Array;
}

/** A row that is followed. */
interface Followed {
  readonly row: number;
  /** Half the gradient, and the sum of the magnitudes of what it was added up from. */
  readonly gradient: Float64Array;
  readonly magnitudes: Float64Array;
  /** Terms that went into it. */
  terms: number;
}

/** Follows a row of a band, and its last one. */
export class DescentCheck {
  readonly #rows: CheckedRows;
  readonly #moments: MomentBlocks;
  readonly #followed: readonly Followed[];

  constructor(rows: CheckedRows, moments: MomentBlocks) {
    this.#rows = rows;
    this.#moments = moments;
    const count = rows.grid.rows, chosen = new Set([randomOf(rows.name)() % count, count - 1]);
    this.#followed = [...chosen].map((row) => ({
      row,
      gradient: new Float64Array(moments.size),
      magnitudes: new Float64Array(moments.size),
      terms: 0,
    }));
  }

  /** The check of a gradient, f32 `[rows, cols]`, of errors, the same. */
  measured(errors: Float32Array, gradient: Float32Array): GpuCheck {
    return {
      verify: () => {
        const { size } = this.#moments;
        for (const followed of this.#followed) {
          const from = followed.row * size;
          followed.gradient.fill(0);
          followed.magnitudes.fill(0);
          followed.terms = 0;
          for (let k = 0; k < size; k++) this.#add(followed, k, errors[from + k]!);
          for (let j = 0; j < size; j++) {
            const got = gradient[from + j]!, want = followed.gradient[j]!;
            if (Math.abs(got - want) <= this.#toleranceOf(followed, j)) continue;
            return this.#said(`a gradient of ${got} instead of ${want}`, j);
          }
        }
        return null;
      },
    };
  }

  /** The check of a step, which changes `panel`, and its report, f64 `[3]`. */
  descended(panel: DevicePanel, totals: Float64Array): GpuCheck {
    let codes = panel.codes, errors = panel.errors;
    return {
      prepare: () => {
        codes = panel.codes.slice();
        errors = panel.errors.slice();
      },
      verify: () => {
        const wrong = this.#checkMoves(panel, codes, errors, totals);
        if (wrong !== null) return wrong;
        for (const followed of this.#followed) {
          const decided = this.#follow(followed, panel, errors);
          if (decided !== null) return decided;
        }
        return null;
      },
    };
  }

  /** Whether all moves are by one grid point, and as many as was said. */
  #checkMoves(
    { first, cols, codes, errors }: DevicePanel,
    codesBefore: Int8Array,
    errorsBefore: Float32Array,
    [count, _gain, cost]: Float64Array,
  ): string | null {
    let moves = 0, change = 0, size = 0;
    for (let at = 0; at < codes.length; at++) {
      const step = codes[at]! - codesBefore[at]!, e = errors[at]!, was = errorsBefore[at]!;
      if (step === 0 && Object.is(e, was)) continue;
      const scale = this.#scaleOf(Math.floor(at / cols), first + at % cols);
      const isMove = step === (was > 0 ? -1 : 1) && e === Math.fround(was + step * scale);
      if (!isMove) return this.#said(`a code that moved by ${step}`, first + at % cols);
      moves++;
      change += e * e - was * was;
      size += e * e + was * was;
    }
    if (moves !== count) return this.#said(`a count of ${count} moves, ${moves} were made`, first);
    if (Math.abs(change - cost!) <= 1e-3 * size + FLUSHED) return null;
    return this.#said(`an error that changed by ${cost} instead of ${change}`, first);
  }

  /** Whether the decisions on the row are those that its gradient asks for. */
  #follow(
    followed: Followed,
    { first, cols, codes, errors, penalty }: DevicePanel,
    before: Float32Array,
  ): string | null {
    const { blockSize, values } = this.#moments, from = followed.row * cols;
    for (let k = 0; k < cols; k++) {
      const j = first + k, was = before[from + k]!, isMoved = !Object.is(errors[from + k]!, was);
      if (was === 0 || Number.isNaN(was)) continue;
      const scale = this.#scaleOf(followed.row, j), d = was > 0 ? -scale : scale;
      const g = followed.gradient[j]!, h = values[j * blockSize + j % blockSize]!;
      const gain = d * 2 * g + d * d * h, cost = penalty === 0 ? 0 : penalty * d * (2 * was + d);
      const change = gain + cost;
      const allowed = 2 * scale * this.#toleranceOf(followed, j) +
        1e-5 * (Math.abs(2 * d * g) + d * d * Math.abs(h) + Math.abs(cost)) + FLUSHED;
      const code = codes[from + k]! - (isMoved ? Math.sign(d) : 0) + Math.sign(d);
      const isLower = change < allowed, isHigher = change > -allowed || Math.abs(code) > 127;
      // An infinite penalty times nothing says nothing.
      if (!Number.isNaN(change) && (isMoved ? !isLower : !isHigher)) {
        return this.#said(isMoved ? "a move that does not pay" : "no move that pays", j);
      }
      if (isMoved) this.#add(followed, j, d);
    }
    return null;
  }

  /** An error of a row that grows by `d`. */
  #add(followed: Followed, k: number, d: number): void {
    if (d === 0) return;
    const { blockSize, values } = this.#moments, { gradient, magnitudes } = followed;
    const left = k - k % blockSize, from = k * blockSize;
    for (let i = 0; i < blockSize; i++) {
      const term = d * values[from + i]!;
      gradient[left + i]! += term;
      magnitudes[left + i]! += Math.abs(term);
    }
    followed.terms++;
  }

  #toleranceOf({ magnitudes, terms }: Followed, column: number): number {
    return sumTolerance(Math.max(this.#moments.blockSize, terms)) * magnitudes[column]! + FLUSHED;
  }

  #scaleOf(row: number, column: number): number {
    const { grid: { cols, groupRows, groupCols }, scales, columnGroups } = this.#rows;
    return scales[Math.floor(row / groupRows) * (cols / groupCols) + columnGroups[column]!]!;
  }

  #said(what: string, column: number): string {
    return `${what} (column ${column} of ${JSON.stringify(this.#rows.name)})`;
  }
}
