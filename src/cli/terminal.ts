/** The process's own streams, as the commands see them: whole lines, quiet on a broken pipe. */

import { writeSync } from "node:fs";
import process from "node:process";
import { isatty } from "node:tty";
import { escapeControls, shownLine } from "./shown_text.ts";

const STDOUT = 1;
const STDERR = 2;
const DEFAULT_COLUMNS = 80;

/** How long a full pipe is given before the next attempt. */
const RETRY_MS = 2;

/** What of a process a command may use. */
export interface Terminal {
  /** Writes results: lines, or JSON. Control characters are spelled out. Needs no `this`. */
  readonly stdout: (lines: string) => void;
  /** Writes one line for people, see `shownLine`: on one line, bounded, without secrets. */
  readonly stderr: (line: string) => void;
  readonly stdoutIsTTY: boolean;
  readonly stderrIsTTY: boolean;
  /** Whether stdout may be coloured: a terminal, and no NO_COLOR. */
  readonly color: boolean;
  /** Width of the terminal; 80 where there is none. */
  readonly columns: number;
}

/**
 * Returns the terminal of this process. Lines are written at once, so that nothing is lost when the
 * process exits; once nobody reads a stream any more, its lines are dropped.
 */
export function openTerminal(): Terminal {
  const stdoutIsTTY = isatty(STDOUT);
  const stderrIsTTY = isatty(STDERR);
  const columns = stdoutIsTTY
    ? process.stdout.columns
    : stderrIsTTY
    ? process.stderr.columns
    : DEFAULT_COLUMNS;
  return {
    stdout: lineWriter(STDOUT, (lines) => lines.split("\n").map(escapeControls).join("\n")),
    stderr: lineWriter(STDERR, shownLine),
    stdoutIsTTY,
    stderrIsTTY,
    color: stdoutIsTTY && !readVariable("NO_COLOR"),
    columns: columns || DEFAULT_COLUMNS,
  };
}

/** Returns an environment variable; empty where it is unset or may not be read. */
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
