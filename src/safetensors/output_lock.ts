/**
 * A lock beside an output, so that two processes never write to the same partial file. It is a file that
 * its owner touches again and again: one that nobody touches is left from a process that was killed, on
 * this machine or on another that shares the disk. No process numbers: they are reused, and mean nothing
 * on another machine.
 */

import { randomUUID } from "node:crypto";
import { lstatSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { UnsupportedError } from "../core/errors.ts";
import { codeOf, explained } from "./io_error.ts";

/** How often an owner touches its lock. */
const TOUCH_MS = 500;

/** How long a lock is watched before it counts as left: many times {@link TOUCH_MS}, for busy machines. */
const WATCH_MS = 4000;

/** A lock that was last touched so long ago is not watched: clocks of machines that share a disk differ. */
const OLD_MS = 60_000;

/** Times of a lock in milliseconds. Default of each: its own. */
export interface LockTimes {
  readonly touchMs?: number;
  readonly watchMs?: number;
}

/** A lock that is held. Release it. */
export class OutputLock {
  readonly #path: string;
  readonly #owner: string;
  readonly #timer: ReturnType<typeof setInterval>;

  private constructor(path: string, owner: string, touchMs: number) {
    this.#path = path;
    this.#owner = owner;
    this.#timer = setInterval(() => this.#touch(), touchMs);
    // It must not keep a process alive that has nothing else to do.
    if (typeof this.#timer === "object") this.#timer.unref();
  }

  /**
   * Takes the lock `path` for writing `output`; waits a few seconds if there is one, to see whether its
   * owner lives.
   *
   * @throws UnsupportedError if it does.
   */
  static async take(path: string, output: string, times: LockTimes = {}): Promise<OutputLock> {
    const { touchMs = TOUCH_MS, watchMs = WATCH_MS } = times;
    const what = `Cannot write ${JSON.stringify(output)}`;
    const owner = randomUUID();
    for (;;) {
      if (explained(what, () => created(path, owner))) break;
      if (await isTouched(path, watchMs)) throw taken(path, output);
      // The last of several processes that wait here has it. Nothing is written beside it, which a kill
      // would leave.
      explained(what, () => {
        // Never through a link: what it points to is not ours.
        if (lstatSync(path, { throwIfNoEntry: false })?.isFile()) writeFileSync(path, owner);
        else rmSync(path, { force: true });
      });
      await sleep(Math.min(100, watchMs));
      if (ownerOf(path) === owner) break;
    }
    return new OutputLock(path, owner, touchMs);
  }

  /** Whether it is held still. Files of the output are only ours to remove as long as it is. */
  get isHeld(): boolean {
    return ownerOf(this.#path) === this.#owner;
  }

  /**
   * Makes sure that it is held still.
   *
   * @throws Error if another process has taken it, because this one stood still for long.
   */
  check(): void {
    if (this.isHeld) return;
    throw new Error(
      `Another process has taken over the output, as this one stood still: its lock ${
        JSON.stringify(this.#path)
      } is not ours any more`,
    );
  }

  /** Gives it back. Idempotent. */
  release(): void {
    clearInterval(this.#timer);
    if (this.isHeld) rmSync(this.#path, { force: true });
  }

  #touch(): void {
    try {
      // Touching the lock of another run would make it look alive after that run was killed.
      if (!this.isHeld) return;
      const now = new Date();
      utimesSync(this.#path, now, now);
    } catch (error) {
      // Somebody removed it; `check` finds out before anything gets its name.
      if (codeOf(error) === null) throw error;
    }
  }
}

/** Makes the lock if there is none. */
function created(path: string, owner: string): boolean {
  try {
    writeFileSync(path, owner, { flag: "wx" });
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
}

/** Whether somebody touches or removes the lock while it is watched. Compares no clocks but old times. */
async function isTouched(path: string, watchMs: number): Promise<boolean> {
  const first = touchedAt(path);
  if (first === null) return false;
  if (Date.now() - first > OLD_MS) return false;
  const end = Date.now() + watchMs;
  while (Date.now() < end) {
    await sleep(Math.min(50, watchMs));
    const now = touchedAt(path);
    if (now === null) return false;
    if (now !== first) return true;
  }
  return false;
}

function touchedAt(path: string): number | null {
  return lstatSync(path, { throwIfNoEntry: false })?.mtimeMs ?? null;
}

function ownerOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw error;
  }
}

function taken(path: string, output: string): Error {
  return new UnsupportedError(
    `Cannot write ${
      JSON.stringify(output)
    }: another process is writing it; wait for it, or stop it ` +
      `(it holds the lock ${JSON.stringify(path)})`,
  );
}
