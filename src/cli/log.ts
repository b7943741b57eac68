/** Messages on stderr beside progress and errors, by level. */

/** How much is said. `MINIMAL`: warnings only. */
export type Verbosity = "MINIMAL" | "NORMAL" | "VERBOSE" | "DEBUG";

const RANK: Readonly<Record<Verbosity, number>> = { MINIMAL: 0, NORMAL: 1, VERBOSE: 2, DEBUG: 3 };

/** Lines for people, on stderr. */
export interface Log {
  /** Said at every level, with `warning: ` before it. The same text is said once. */
  warn(message: string): void;
  info(message: string): void;
  verbose(message: string): void;
  debug(message: string): void;
}

/** Returns a log that writes what `verbosity` lets through. */
export function createLog(
  verbosity: Verbosity,
  { stderr, onWarning }: {
    readonly stderr: (line: string) => void;
    /** Called with each warning, too: for programs that read events. */
    readonly onWarning?: ((message: string) => void) | undefined;
  },
): Log {
  const warned = new Set<string>();
  const at = (level: Verbosity) => (message: string) => {
    if (RANK[verbosity] >= RANK[level]) stderr(message);
  };
  return {
    warn(message) {
      if (warned.has(message)) return;
      warned.add(message);
      stderr(`warning: ${message}`);
      onWarning?.(message);
    },
    info: at("NORMAL"),
    verbose: at("VERBOSE"),
    debug: at("DEBUG"),
  };
}
