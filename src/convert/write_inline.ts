/** Writes markers and the like, which are known without reading, while the workers do the rest. */

import type { InlineWrite } from "../run/make_tasks.ts";

/** Writes between two turns in which this thread takes reports of workers: a few milliseconds. */
const WRITES_AT_ONCE = 64;

/** Work of others that is started before the writes begin. */
export interface OthersWork<Result> {
  /** Starts it; it rejects soon after `signal` aborts. */
  run(signal: AbortSignal): Promise<Result>;
  /** Ends it, if it aborts. */
  readonly signal: AbortSignal | undefined;
}

/**
 * Starts the work of others, then writes; returns what that work gives once both are done.
 *
 * @throws the first failure of either, once the other one has ended, too.
 */
export async function writeBeside<Result>(
  output: { write(bytes: Uint8Array, offsetBytes: number): void },
  inline: readonly InlineWrite[],
  { run, signal }: OthersWork<Result>,
): Promise<Result> {
  const stop = new AbortController(), failures: unknown[] = [];
  const fail = (error: unknown): void => {
    failures.push(error);
    stop.abort();
  };
  const all = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  // The workers start first: a large model has a marker for each of its layers.
  const running = run(all).then((result) => [result], (error) => fail(error));
  const writing = writeInTurns(output, inline, all).catch(fail);
  const [results] = await Promise.all([running, writing]);
  if (failures.length > 0 || !Array.isArray(results)) throw failures[0];
  return results[0]!;
}

async function writeInTurns(
  output: { write(bytes: Uint8Array, offsetBytes: number): void },
  inline: readonly InlineWrite[],
  signal: AbortSignal,
): Promise<void> {
  for (let begin = 0; begin < inline.length; begin += WRITES_AT_ONCE) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    if (signal.aborted) return;
    for (const { bytes, offsetBytes } of inline.slice(begin, begin + WRITES_AT_ONCE)) {
      output.write(bytes, offsetBytes);
    }
  }
}
