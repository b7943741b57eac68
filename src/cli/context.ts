/** The edges of the process that a command gets. */

import type { EarlyWorkers } from "../run/workers/run_thread.ts";
import type { Terminal } from "./terminal.ts";

/** The edges of the process. */
export interface CommandContext extends Terminal {
  /** Aborts when the user interrupts. */
  readonly signal: AbortSignal;
  /** URL of the worker script, built in `main.ts`. */
  readonly workerUrl: URL;
  /** Workers that were started before the command was loaded; null if it may need none. */
  readonly early: EarlyWorkers | null;
}
