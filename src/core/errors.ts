/**
 * The error classes a caller acts on. Everything else is a built-in class and exits 1.
 *
 * Messages follow one form: the action, a colon, the facts, no final period:
 * `Cannot read tensor "a.weight": data_offsets span 512 bytes, shape [16, 16] as F32 needs 1024`.
 */

/** The command line or an option object is wrong. Exit code 2. */
export class UsageError extends Error {
  /** Name of the class. */
  override readonly name: string = "UsageError";
  /** Advice for the user: the end of the message. */
  readonly hint: string | undefined;

  /**
   * Puts the message together.
   *
   * @param message what is wrong, with the hint at its end.
   * @param options the hint alone, which a terminal shows on its own line, and what led to the error.
   */
  constructor(message: string, { hint, cause }: { hint?: string; cause?: unknown } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.hint = hint;
  }
}

/** Returns an error's message without its hint, and the hint; null if it has none. */
export function splitHint(
  error: Error,
): { readonly message: string; readonly hint: string | null } {
  const { message } = error;
  const hint = "hint" in error && typeof error.hint === "string" ? error.hint : "";
  if (hint === "" || !message.endsWith(hint)) return { message, hint: null };
  return { message: message.slice(0, -hint.length).replace(/[:;,]? $/, ""), hint };
}

/** Place in a file at which a {@link FormatError} was found. */
export interface FormatErrorPlace {
  /** Path of the file, as the user gave it. */
  path: string;
  /** Tensor name, if one is concerned. */
  tensor?: string;
  /** Absolute offset in the file, in bytes. */
  offsetBytes?: number;
  /** Advice for the user. */
  hint?: string;
  /** The cause. */
  cause?: unknown;
}

/** A file breaks a rule of its format. Exit code 1. Names file, tensor, offset, rule and what to do. */
export class FormatError extends Error {
  /** Name of the class. */
  override readonly name = "FormatError";
  /** The file, as the user gave it. */
  readonly path: string;
  /** The tensor, if one is concerned. */
  readonly tensor: string | undefined;
  /** Absolute offset in the file, in bytes. */
  readonly offsetBytes: number | undefined;
  /** The rule that is broken, without the place. */
  readonly rule: string;
  /** Advice for the user. */
  readonly hint: string | undefined;

  /**
   * Puts the message together.
   *
   * @param rule the rule that is broken, without the place.
   * @param place where, and what to do about it.
   */
  constructor(rule: string, place: FormatErrorPlace) {
    const tensor = place.tensor === undefined ? "" : `, tensor ${JSON.stringify(place.tensor)}`;
    const offset = place.offsetBytes === undefined ? "" : `, at byte ${place.offsetBytes}`;
    const hint = place.hint === undefined ? "" : `; ${place.hint}`;
    super(
      `Cannot read ${JSON.stringify(place.path)}${tensor}${offset}: ${rule}${hint}`,
      place.cause === undefined ? undefined : { cause: place.cause },
    );
    this.path = place.path;
    this.tensor = place.tensor;
    this.offsetBytes = place.offsetBytes;
    this.rule = rule;
    this.hint = place.hint;
  }
}

/** The input is valid, but this conversion of it makes no sense or no working file. Exit code 1. */
export class UnsupportedError extends Error {
  /** Name of the class. */
  override readonly name: string = "UnsupportedError";
}

/** The input is quantized already, and nothing says that it shall be dequantized first. Exit code 1. */
export class AlreadyQuantizedError extends UnsupportedError {
  override readonly name = "AlreadyQuantizedError";
}

/** A compute device failed: lost, out of memory, a shader that does not compile. */
export class DeviceError extends Error {
  /** Name of the class. */
  override readonly name = "DeviceError";
}

/** The user interrupted the run. Exit code 130. */
export class InterruptedError extends Error {
  /** Name of the class. */
  override readonly name = "InterruptedError";
  /**
   * Says what was left behind.
   *
   * @param state what that is, in a few words.
   */
  constructor(state = "no output was written") {
    super(`Interrupted: ${state}`);
  }
}

/** Returns the process exit code for `error`: 2 usage, 130 interrupted, 1 everything else. */
export function exitCodeOf(error: unknown): 1 | 2 | 130 {
  if (error instanceof UsageError) return 2;
  if (error instanceof InterruptedError) return 130;
  return 1;
}
