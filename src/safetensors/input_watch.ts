/**
 * Whether inputs stayed what they were while they were read. A file that another program replaces or writes to
 * meanwhile would give a model that is mixed of two, with nothing to show for it.
 */

import { type BigIntStats, existsSync, statSync } from "node:fs";
import type { InputPath } from "../remote/input_path.ts";
import { codeOf, FileError, ioReason } from "./io_error.ts";

/** The state of a local file when its header was read. */
export interface FileStamp {
  /** As it was named. */
  readonly path: string;
  /** Device and number of the file: another file under the same name has others. */
  readonly id: string;
  /** Its size. */
  readonly bytes: bigint;
  /** Time of its last change in nanoseconds. */
  readonly changedNs: bigint;
}

/** An input was changed while it was read: its output cannot be used. */
export class ChangedInputError extends Error {
  /** Name of the class. */
  override readonly name = "ChangedInputError";
  /** The file. */
  readonly path: string;

  /**
   * Puts the message together.
   *
   * @param what happened to it: `it was written to`.
   */
  constructor(path: string, what: string) {
    super(
      `Cannot use ${
        JSON.stringify(path)
      }: ${what} while it was read, so that the result would be ` +
        "mixed of two files; start again when nothing writes to it",
    );
    this.path = path;
  }
}

/** Returns the stamp of a file with these stats (`{ bigint: true }`). */
export function stampOf(path: string, { dev, ino, size, mtimeNs }: BigIntStats): FileStamp {
  return { path, id: `${dev}:${ino}`, bytes: size, changedNs: mtimeNs };
}

/** Returns the stamps of the local files among `paths` as they are now. */
function stampsOf(paths: readonly InputPath[]): FileStamp[] {
  return paths.flatMap((path) =>
    typeof path === "string" ? [stampOf(path, statSync(path, { bigint: true }))] : []
  );
}

/**
 * Returns the stamps of everything that a run reads: those that its model was opened with, and those that
 * the other files have now. Files on servers have none: every answer of a server is checked.
 */
export function watchInputs(
  { stamps = [] }: { readonly stamps?: readonly FileStamp[] },
  others: readonly InputPath[] = [],
): FileStamp[] {
  const known = new Set(stamps.map(({ path }) => path));
  return [
    ...stamps,
    ...stampsOf(others.filter((path) => typeof path !== "string" || !known.has(path))),
  ];
}

/**
 * Returns why a run failed that read these files: `error`, unless one of them is another file now, or a shorter
 * one, which then is the reason. A file that is gone is what the error says; it may come back.
 */
export function explainedByChange(stamps: readonly FileStamp[], error: unknown): unknown {
  if (!(error instanceof FileError)) return error;
  try {
    refuseChanged(stamps.filter(({ path }) => existsSync(path)));
    return error;
  } catch (changed) {
    return changed;
  }
}

/**
 * Checks that every file is what it was: call it before an output gets its name.
 *
 * @throws ChangedInputError naming the first that is not.
 */
export function refuseChanged(stamps: readonly FileStamp[]): void {
  for (const stamp of stamps) {
    const { path } = stamp;
    let now: FileStamp;
    try {
      now = stampOf(path, statSync(path, { bigint: true }));
    } catch (error) {
      const what = codeOf(error) === "ENOENT" ? "it was removed" : `it went (${ioReason(error)})`;
      throw new ChangedInputError(path, what);
    }
    if (now.bytes !== stamp.bytes) {
      throw new ChangedInputError(path, `its size went from ${stamp.bytes} to ${now.bytes} bytes`);
    }
    if (now.id !== stamp.id) throw new ChangedInputError(path, "it was replaced by another file");
    if (now.changedNs !== stamp.changedNs) throw new ChangedInputError(path, "it was written to");
  }
}
