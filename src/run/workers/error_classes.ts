/** The classes of errors that keep their class and fields between threads. A new class gets its line here. */

import {
  CORE_ERRORS,
  type ErrorClass,
  type PlainError,
  restoredError,
} from "../../core/plain_error.ts";
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

/** Whether the message of `error` says what failed, without the tensor that a worker was at. */
export function saysWhat(error: Error): boolean {
  return Object.hasOwn(CLASSES, error.name) &&
    !["Error", "TypeError", "RangeError", "SyntaxError"].includes(error.name);
}
