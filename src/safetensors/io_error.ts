/** Failures of files: what the operating system says, in words. Pure. */

const REASONS: Readonly<Record<string, string>> = Object.freeze({
  ENOENT: "no such file or folder",
  ENOTDIR: "a part of the path is not a folder",
  EISDIR: "it is a folder",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EFBIG: "the file system cannot hold a file of this size",
  EIO: "the disk reports an error",
  EMFILE: "too many files are open",
  ENFILE: "too many files are open",
  ENAMETOOLONG: "the file name is too long",
  ELOOP: "its symbolic links form a circle",
});

/** A file could not be opened, read, written, renamed or removed. */
export class FileError extends Error {
  /** Name of the class. */
  override readonly name = "FileError";
  /** Why, for the end of a message: `no such file or folder`. */
  readonly reason: string;
  /** Code of the operating system: `ENOENT`; null: it says nothing. */
  readonly code: string | null;

  /**
   * Puts the message together.
   *
   * @param what its first half: `Cannot open "model.safetensors"`.
   * @param cause what `node:fs` threw, or what is wrong with the file.
   */
  constructor(what: string, cause: unknown) {
    const reason = ioReason(cause);
    super(`${what}: ${reason}`, { cause });
    this.reason = reason;
    this.code = codeOf(cause);
  }
}

/** Returns the `code` of an error of `node:fs` (`ENOENT`, ...), or null if it has none. */
export function codeOf(error: unknown): string | null {
  return error instanceof Error && "code" in error && typeof error.code === "string"
    ? error.code
    : null;
}

/** Returns why a file operation failed, for the end of a message: `no such file or folder`. */
export function ioReason(error: unknown): string {
  if (error instanceof FileError) return error.reason;
  const known = REASONS[codeOf(error) ?? ""];
  return known ?? (error instanceof Error ? error.message : String(error));
}

/**
 * Returns `action` done, its failure reworded: `Cannot open "model.safetensors": permission denied`.
 *
 * @param what the first half of the message: `Cannot open "model.safetensors"`.
 * @throws FileError with the original as its cause.
 */
export function explained<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    throw new FileError(what, cause);
  }
}

/** {@link explained} for what takes its time. */
export async function explainedAsync<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    throw new FileError(what, cause);
  }
}
