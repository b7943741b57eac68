/**
 * Workers that run the same function on the same matrices, each on its part (single program, multiple
 * data). Functions in this folder take a team: they split rows with {@link shareOf}, meet at barriers,
 * and give the same bits for every size of team. One thread alone is {@link SOLO}.
 */

/** This worker's place among those that run the same function. */
export interface Team {
  /** 0 .. size - 1; 0 does what only one may do. */
  readonly index: number;
  readonly size: number;
  /** Returns when all members have called it. Writes of one member before it are visible to all after it. */
  barrier(): void;
  /** Returns, to every member, the largest i32 that a member gave. A barrier too. */
  max(value: number): number;
}

/** A team of one. */
export const SOLO: Team = Object.freeze<Team>({
  index: 0,
  size: 1,
  barrier: () => {},
  max: (value: number) => value,
});

/** A contiguous part of some work. */
export interface Share {
  readonly start: number;
  readonly end: number;
}

/** Returns this member's part of `start .. end`, in whole `unit`s except at the end. */
export function shareOf(
  team: Pick<Team, "index" | "size">,
  start: number,
  end: number,
  unit = 1,
): Share {
  const units = Math.ceil((end - start) / unit);
  const from = Math.floor((units * team.index) / team.size);
  const to = Math.floor((units * (team.index + 1)) / team.size);
  return { start: Math.min(end, start + from * unit), end: Math.min(end, start + to * unit) };
}

/**
 * Returns this member's part of the rows `0 .. n` of a lower triangle: parts of about equal area, in
 * whole `unit`s except at the end.
 */
export function triangleShareOf(team: Team, n: number, unit = 1): Share {
  const boundary = (k: number) =>
    k === team.size ? n : Math.min(n, Math.round((n * Math.sqrt(k / team.size)) / unit) * unit);
  return { start: boundary(team.index), end: boundary(team.index + 1) };
}

const ARRIVED = 0, GENERATION = 1, ABORTED = 2, MAXIMA = 3;

/** Cells for maxima, used in turn: one is read, one is made, one is cleared. */
const MAXIMA_LENGTH = 3;

const I32_MIN = -(2 ** 31);

/** Returns the shared cells through which the members of one {@link AtomicsTeam} meet. */
export function createTeamControl(): Int32Array<SharedArrayBuffer> {
  const control = new Int32Array(new SharedArrayBuffer(4 * (MAXIMA + MAXIMA_LENGTH)));
  control.fill(I32_MIN, MAXIMA);
  return control;
}

/** Thrown at a barrier if a member has left its team: it will never arrive. */
export class TeamAbortedError extends Error {
  override readonly name = "TeamAbortedError";
  constructor() {
    super("Cannot continue: another worker of the team has stopped");
  }
}

/** Makes every member that waits at a barrier, or comes to one, throw a {@link TeamAbortedError}. */
export function abortTeam(control: Int32Array): void {
  Atomics.store(control, ABORTED, 1);
  Atomics.add(control, GENERATION, 1);
  Atomics.notify(control, GENERATION);
}

/** A member of a team of workers (and perhaps the main thread) that meet in shared memory. */
export class AtomicsTeam implements Team {
  readonly index: number;
  readonly size: number;
  readonly #control: Int32Array;
  #maxima = 0;

  /** `control`: from {@link createTeamControl}, the same for all members, for this team only. */
  constructor(control: Int32Array, index: number, size: number) {
    this.#control = control;
    this.index = index;
    this.size = size;
  }

  /** @throws TeamAbortedError if a member has called {@link abort}. */
  barrier(): void {
    const control = this.#control;
    const generation = Atomics.load(control, GENERATION);
    this.#throwIfAborted();
    if (Atomics.add(control, ARRIVED, 1) === this.size - 1) {
      Atomics.store(control, ARRIVED, 0);
      Atomics.add(control, GENERATION, 1);
      Atomics.notify(control, GENERATION);
      return;
    }
    while (Atomics.load(control, GENERATION) === generation) {
      Atomics.wait(control, GENERATION, generation);
    }
    this.#throwIfAborted();
  }

  max(value: number): number {
    const control = this.#control;
    const cell = MAXIMA + this.#maxima % MAXIMA_LENGTH;
    this.#maxima++;
    // Everyone has left the round that last used the next cell, nobody can be in the one that will.
    Atomics.store(control, MAXIMA + this.#maxima % MAXIMA_LENGTH, I32_MIN);
    let seen = Atomics.load(control, cell);
    while (value > seen) {
      const found = Atomics.compareExchange(control, cell, seen, value);
      if (found === seen) break;
      seen = found;
    }
    this.barrier();
    return Atomics.load(control, cell);
  }

  /** Makes every member that waits at a barrier, or comes to one, throw. For a member that failed. */
  abort(): void {
    abortTeam(this.#control);
  }

  #throwIfAborted(): void {
    if (Atomics.load(this.#control, ABORTED) !== 0) throw new TeamAbortedError();
  }
}
