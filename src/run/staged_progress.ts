/** One progress for several runs in a row: each has the share of the bytes that all of them will read. */

import type { Progress } from "./workers/worker_pool.ts";

/** The stages of a conversion. Each reads so many bytes, as far as is known before. */
export class Stages<Name extends string> {
  readonly #bytes: readonly (readonly [Name, number])[];
  readonly #report: ((progress: Progress) => void) | undefined;

  /** @param bytes of every stage, in order. @param report gets the progress of the whole. */
  constructor(
    bytes: readonly (readonly [Name, number])[],
    report: ((progress: Progress) => void) | undefined,
  ) {
    this.#bytes = bytes;
    this.#report = report;
  }

  /** Returns what the run of a stage reports its own progress to; undefined if nobody listens. */
  of(name: Name): ((progress: Progress) => void) | undefined {
    const report = this.#report;
    if (report === undefined) return undefined;
    const index = this.#bytes.findIndex(([stage]) => stage === name);
    const sizes = this.#bytes.map(([, bytes]) => bytes), own = sizes[index]!;
    const all = sizes.reduce((sum, bytes) => sum + bytes, 0);
    const before = sizes.slice(0, index).reduce((sum, bytes) => sum + bytes, 0);
    return ({ doneBytes, totalBytes, current }) => {
      const share = totalBytes === 0 ? 1 : doneBytes / totalBytes;
      report({ doneBytes: before + own * share, totalBytes: all, current });
    };
  }
}
