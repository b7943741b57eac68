/** How often a server is asked again, and how long to wait between. */

import { RemoteError } from "./remote_error.ts";

/** How long a server may be silent, and how often it is asked again. */
export interface Patience {
  /** Without a byte for as long, a connection counts as broken. */
  readonly silenceMs: number;
  /** Failures in a row, without some bytes between them, after which reading fails. */
  readonly attempts: number;
  /** Wait after the first failure; twice as long after each further one, at most {@link MAX_WAIT_MS}. */
  readonly firstWaitMs: number;
}

/** Settings that suit servers of models. */
export const DEFAULT_PATIENCE: Patience = Object.freeze({
  silenceMs: 30_000,
  attempts: 8,
  firstWaitMs: 500,
});

/** Bytes that a connection must bring to be no failure: a few at a time would never end. */
const PROGRESS_BYTES = 16 << 10;

/** Longest wait between two requests. */
const MAX_WAIT_MS = 20_000;

/** How {@link persist} asks again. */
export interface PersistOptions {
  readonly patience?: Patience | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called before a request is repeated, with a sentence for people. */
  readonly onRetry?: ((text: string) => void) | undefined;
}

/**
 * Returns what `attempt` returns, which is called again after temporary failures.
 *
 * @param progress bytes that it has: failures count anew when there are 16 KiB more.
 * @throws RemoteError; what else `attempt` throws; the reason of `signal`.
 */
export async function persist<T>(
  attempt: () => Promise<T>,
  { patience = DEFAULT_PATIENCE, signal, onRetry }: PersistOptions,
  progress: () => number = () => 0,
): Promise<T> {
  for (let failures = 0;;) {
    const before = progress();
    try {
      return await attempt();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (!(error instanceof RemoteError) || !error.fault.isTemporary) throw error;
      failures = progress() - before >= PROGRESS_BYTES ? 1 : failures + 1;
      if (failures >= patience.attempts) throw givenUp(error, failures);
      const backoff = Math.min(MAX_WAIT_MS, patience.firstWaitMs * 2 ** (failures - 1));
      const wait = Math.min(MAX_WAIT_MS, Math.max(error.fault.waitMs ?? 0, jittered(backoff)));
      onRetry?.(`${error.message}; asking again in ${(wait / 1000).toFixed(1)} s`);
      await pause(wait, signal);
    }
  }
}

function givenUp({ fault }: RemoteError, failures: number): RemoteError {
  return new RemoteError({
    ...fault,
    rule: `${fault.rule}, ${failures} times in a row; run again later, or download the file first`,
    isTemporary: false,
  });
}

/** Spreads the requests of several connections that broke together: 75 to 125%. */
function jittered(ms: number): number {
  return ms * (0.75 + Math.random() / 2);
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
