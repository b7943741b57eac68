/** The process's own streams, as the commands see them: whole lines, quiet on a broken pipe. */

import { writeSync } from "node:fs";
import process from "node:process";
import { isatty } from "node:tty";
import { reportLines, screenLines } from "./screen.ts";
import { escapeControls, resultLine, shownLine } from "./shown_text.ts";

const STDOUT = 1;
const STDERR = 2;
const DEFAULT_COLUMNS = 80;

/** To the first column, and clear to the end of the line. */
const CLEAR_LINE = "\r\u001b[K";

/** How long a full pipe is given before the next attempt. */
const RETRY_MS = 2;

/** The parts of a process that a command may use. */
export interface Terminal {
  /** Writes results: lines for people as `resultLine` has them, or JSON, which is complete. Needs no `this`. */
  readonly stdout: (lines: string) => void;
  /** Writes results with styles. Only for text that is the program's own: nothing is escaped. */
  readonly styled: (lines: string) => void;
  /**
   * Writes one line for people, see `shownLine`: bounded, without secrets. A terminal wraps it at words
   * and colours its label, see `screenLines`; elsewhere it stays one line.
   */
  readonly stderr: (line: string) => void;
  readonly stdoutIsTTY: boolean;
  readonly stderrIsTTY: boolean;
  /** Whether stderr is a terminal that a progress bar can be drawn on: not TERM=dumb. */
  readonly canDraw: boolean;
  /** Whether stdout may be coloured: a terminal other than TERM=dumb, and no NO_COLOR. */
  readonly color: boolean;
  /** Width of the terminal; 80 if there is none. */
  readonly columns: number;
}

/** How a terminal is opened. */
export interface TerminalOptions {
  /** Results are JSON, or a script: they are complete, whatever is in them. Default: lines for people. */
  readonly isMachineRead?: boolean;
}

/**
 * Returns the terminal of this process. Lines are written at once, so that nothing is lost when the
 * process exits; once nobody reads a stream any more, its lines are dropped.
 */
export function openTerminal({ isMachineRead = false }: TerminalOptions = {}): Terminal {
  const stdoutIsTTY = isatty(STDOUT);
  const stderrIsTTY = isatty(STDERR);
  const columns = stdoutIsTTY
    ? process.stdout.columns
    : stderrIsTTY
    ? process.stderr.columns
    : DEFAULT_COLUMNS;
  const canDraw = stderrIsTTY && readVariable("TERM") !== "dumb";
  const wantsColor = readVariable("TERM") !== "dumb" && readVariable("NO_COLOR") === "";
  const layout = {
    columns: (stderrIsTTY ? process.stderr.columns : 0) || DEFAULT_COLUMNS,
    color: stderrIsTTY && wantsColor,
  };
  const width = columns || DEFAULT_COLUMNS;
  const color = stdoutIsTTY && wantsColor;
  // A progress bar may stand on the line: it is drawn anew below what is written.
  const start = canDraw ? CLEAR_LINE : "";
  return {
    stdout: lineWriter(
      STDOUT,
      (lines) =>
        lines.split("\n").map(isMachineRead ? escapeControls : resultLine)
          .flatMap((line) => stdoutIsTTY ? reportLines(line, { columns: width, color }) : [line])
          .join("\n"),
    ),
    styled: lineWriter(STDOUT, (lines) => lines),
    stderr: lineWriter(
      STDERR,
      (line) =>
        stderrIsTTY ? start + screenLines(shownLine(line), layout).join("\n") : shownLine(line),
    ),
    stdoutIsTTY,
    stderrIsTTY,
    canDraw,
    color,
    columns: width,
  };
}

/** Returns an environment variable; empty if it is unset or may not be read. */
export function readVariable(name: string): string {
  try {
    return process.env[name] ?? "";
  } catch (error) {
    // Without the permission to read the environment, nothing is set.
    if (error instanceof Error) return "";
    throw error;
  }
}

function lineWriter(fd: number, shown: (line: string) => string): (line: string) => void {
  let isOpen = true;
  return (line) => {
    if (!isOpen) return;
    try {
      writeFully(fd, new TextEncoder().encode(`${shown(line)}\n`));
    } catch (error) {
      if (codeOf(error) !== "EPIPE") throw error;
      isOpen = false;
    }
  };
}

function writeFully(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      if (codeOf(error) !== "EAGAIN") throw error;
      // A pipe that does not block is full: its reader needs a moment.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
