/**
 * Windows by hand: models dropped on the binary, and the window that Windows opens for it, which would close
 * before anybody can read it.
 */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { win32 } from "node:path";
import process from "node:process";

/** Facts of the process. */
export interface ProcessFacts {
  /** `process.platform`. */
  readonly platform: string;
  readonly args: readonly string[];
  /** Whether stdin and stderr are a console. */
  readonly isConsole: boolean;
  /** Name of the program that started this one, `explorer.exe`; null if it is not known. */
  readonly parent: () => string | null;
  /** Whether there is a file or folder of this name. */
  readonly exists: (path: string) => boolean;
}

/**
 * Whether the console is a window of the program's own: on Windows, started from the desktop by a double
 * click or by dropping files on it. Pure but for what `facts` ask.
 */
export function hasOwnWindow({ platform, args, isConsole, parent, exists }: ProcessFacts): boolean {
  if (platform !== "win32" || !isConsole) return false;
  // Explorer passes full paths and nothing else.
  if (!args.every((arg) => win32.isAbsolute(arg) && exists(arg))) return false;
  return parent()?.toLowerCase() === "explorer.exe";
}

/** Returns the command line for files that were dropped: several are a batch. Pure. */
export function argsOfDrop(dropped: readonly string[]): string[] {
  return dropped.length < 2 ? [...dropped] : ["batch", ...dropped, "--yes"];
}

/** Returns the facts of this process. */
export function processFacts(args: readonly string[]): ProcessFacts {
  return {
    platform: process.platform,
    args,
    isConsole: process.stdin.isTTY === true && process.stderr.isTTY === true,
    parent: parentName,
    exists: existsSync,
  };
}

/** Returns the name of the parent process on Windows; null if it may not be asked for. */
function parentName(): string | null {
  try {
    const { stdout } = spawnSync(
      "tasklist",
      ["/FI", `PID eq ${process.ppid}`, "/FO", "CSV", "/NH"],
      { encoding: "utf8", windowsHide: true },
    );
    return programInCsv(stdout ?? "");
  } catch (error) {
    // Without the permission to run it, the window is taken for somebody else's.
    if (error instanceof Error) return null;
    throw error;
  }
}

/** Returns the first field of a line of `tasklist /FO CSV`; null if there is none. Pure. */
export function programInCsv(text: string): string | null {
  return /^"([^"]+)","\d+"/m.exec(text)?.[1] ?? null;
}

/** Waits until a key is pressed. */
export async function waitForKey(): Promise<void> {
  const { stdin } = process;
  stdin.setRawMode?.(true);
  stdin.resume();
  await new Promise<void>((resolve) => stdin.once("data", () => resolve()));
  stdin.setRawMode?.(false);
  stdin.pause();
}
