/** What a command gets from the process around it. */

/** The edges of the process. */
export interface CommandContext {
  /** Aborts when the user interrupts. */
  readonly signal: AbortSignal;
  /** URL of the worker script, built in `main.ts`. */
  readonly workerUrl: URL;
  /** Writes one line. Needs no `this`. */
  readonly stdout: (line: string) => void;
  readonly stderr: (line: string) => void;
  readonly stdoutIsTTY: boolean;
  readonly stderrIsTTY: boolean;
  /** Whether stdout may be coloured: a terminal, and no NO_COLOR. */
  readonly color: boolean;
  /** Width of the terminal; 80 where there is none. */
  readonly columns: number;
}
