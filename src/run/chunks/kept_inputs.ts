/**
 * Layers that read the same inputs share what is made of them: the factored Hessian and the held-out rows.
 * They follow one another (`make_tasks.ts`), and the first leaves it in the memory of the team. The next one finds
 * it there if all that it is made by is the same, and the rows themselves are, byte for byte. Results are those
 * of a layer that makes its own.
 *
 * Memory: a layer that finds it takes what it would take, in the same places.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { Compensation } from "../../calibration/compensation.ts";
import type { StatisticData } from "../../calibration/calibration.ts";
import { shareOf } from "../../linalg/team.ts";
import { elementBytes, type Task } from "../tasks.ts";
import type { FittedLayer, Kept, Scratch, TeamContext } from "./chunk_context.ts";
import { inputsKey } from "./inputs_key.ts";

/** Bytes that are compared at a time. */
const BLOCK_BYTES = 1 << 16;

/** What the layer before has left. */
interface Left {
  readonly key: string;
  readonly compensation: Compensation;
  readonly inputs: unknown;
  /** Where it ends in the memory of the team. */
  readonly end: number;
}

/** The memory of a team, and what the last layer has left there. Every member has one. */
export class KeptInputs implements Kept {
  readonly shared: Scratch;
  readonly #begin: number;
  #kept: Left | null = null;

  /** @param shared where layers are done; all of it belongs to them. */
  constructor(shared: Scratch) {
    this.shared = shared;
    this.#begin = shared.mark();
  }

  /** Makes room for `task`: all that is left is given back, unless it may find it of use. */
  begin(task: Task): void {
    if (this.#kept !== null && inputsKey(task) === this.#kept.key) {
      this.shared.release(this.#kept.end);
    } else this.drop();
  }

  /** Gives back all that is left. */
  drop(): void {
    this.#kept = null;
    this.shared.release(this.#begin);
  }

  take<Inputs>(team: TeamContext, { task, compensation, make }: FittedLayer<Inputs>): Inputs {
    if (this.#kept !== null && haveSameRows(team, this.#kept.compensation, compensation)) {
      // The same key: made by the same function.
      return this.#kept.inputs as Inputs;
    }
    this.drop();
    const inputs = make(), key = inputsKey(task);
    if (key !== null) this.#kept = { key, compensation, inputs, end: this.shared.mark() };
    return inputs;
  }
}

function roomForBlocks(scratch: Pick<Scratch, "u8">) {
  return [scratch.u8(BLOCK_BYTES), scratch.u8(BLOCK_BYTES)] as const;
}

/** Counts what {@link KeptInputs.take} takes besides what is made. */
export function planKeptInputs(own: CountedMemory): void {
  own.within(() => roomForBlocks(own));
}

/** Whether two layers of the same key have the same rows. A barrier. */
function haveSameRows(team: TeamContext, one: Compensation, other: Compensation): boolean {
  const judge = one.heldOut?.data, otherJudge = other.heldOut?.data;
  const areSame = isSame(team, [one.data, other.data], rowsOf(one) * one.cols) &&
    (judge === undefined || otherJudge === undefined ||
      isSame(team, [judge, otherJudge], judgingRows(one) * one.cols));
  return team.linalg.team.max(areSame ? 0 : 1) === 0;
}

/** Rows of the data that a layer is fitted to, and of those behind them that it is judged by. */
function rowsOf(compensation: Compensation): number {
  const { rows, heldOut } = compensation;
  return heldOut === null || heldOut.data !== undefined ? rows : judgingRows(compensation);
}

function judgingRows({ heldOut }: Compensation): number {
  return heldOut === null ? 0 : heldOut.firstRow + (heldOut.rows - 1) * heldOut.rowStep + 1;
}

/** Whether this member's part of `count` numbers is the same in both. */
function isSame(
  team: TeamContext,
  [one, other]: readonly [StatisticData, StatisticData],
  count: number,
): boolean {
  if (one.kind !== "file" || other.kind !== "file" || one.dtype !== other.dtype) return false;
  if (!haveSameFactors(one.factors, other.factors)) return false;
  if (one.file === other.file && one.offsetBytes === other.offsetBytes) return true;
  const { scratch, linalg, kernels } = team;
  const byteLength = count * elementBytes(one.dtype);
  const mark = scratch.mark();
  const [a, b] = roomForBlocks(scratch);
  const { start, end } = shareOf(linalg.team, 0, byteLength, BLOCK_BYTES);
  let areSame = true;
  for (let at = start; areSame && at < end; at += BLOCK_BYTES) {
    const length = Math.min(BLOCK_BYTES, end - at);
    const [own, others] = [a.subarray(0, length), b.subarray(0, length)];
    team.read(one.file, own, one.offsetBytes + at);
    team.read(other.file, others, other.offsetBytes + at);
    areSame = kernels.haveSameBytes(own, others);
  }
  scratch.release(mark);
  return areSame;
}

function haveSameFactors(one?: Float32Array, other?: Float32Array): boolean {
  if (one === undefined || other === undefined) return one === other;
  return one.length === other.length && one.every((factor, k) => factor === other[k]);
}
