/** The classes of errors that keep their class and fields between threads. A new class gets its line here. */

import {
  CORE_ERRORS,
  type ErrorClass,
  type PlainError,
  restoredError,
} from "../../core/plain_error.ts";
import { FormatError, InterruptedError, UsageError } from "../../core/errors.ts";
import { RedirectError } from "../../remote/redirects.ts";
import { RemoteError } from "../../remote/remote_error.ts";
import { ChangedInputError } from "../../safetensors/input_watch.ts";
import { FileError } from "../../safetensors/io_error.ts";
import { WrongResultError } from "../checks/gpu_check.ts";

const CLASSES: Readonly<Record<string, ErrorClass>> = {
  ...CORE_ERRORS,
  RemoteError,
  RedirectError,
  ChangedInputError,
  FileError,
  WrongResultError,
};

/** Returns the error that a thread reported. */
export function reportedError(plain: PlainError): Error {
  return restoredError(plain, CLASSES);
}

/** Those whose message names the place of the fault, or is about the run and no tensor. */
const COMPLETE = [FormatError, ChangedInputError, WrongResultError, InterruptedError, UsageError];

/** Returns `error` with the tensor that a worker was at in its message, unless that says enough already. */
export function atTensor<E extends Error>(error: E, name: string): E {
  const tensor = JSON.stringify(name);
  const isComplete = COMPLETE.some((made) => error instanceof made);
  if (!isComplete && !error.message.includes(tensor)) {
    error.message = `Cannot process tensor ${tensor}: ${error.message}`;
  }
  return error;
}
