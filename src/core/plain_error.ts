/**
 * Errors as plain data, to cross from one thread to another: what crosses by structured clone, or as JSON,
 * loses its class and fields.
 */

import {
  AlreadyQuantizedError,
  DeviceError,
  FormatError,
  InterruptedError,
  UnsupportedError,
  UsageError,
} from "./errors.ts";
import { JsonError } from "./json.ts";

/** An error as plain data: also JSON. */
export interface PlainError {
  /** Its class, by the name that errors have. */
  readonly name: string;
  readonly message: string;
  readonly stack: string | null;
  /** Its other fields that are plain data: path, tensor, code of the operating system, ... */
  readonly fields: Readonly<Record<string, PlainValue>>;
  readonly cause: PlainError | null;
}

type PlainValue =
  | string
  | number
  | boolean
  | null
  | readonly PlainValue[]
  | { readonly [key: string]: PlainValue };

/** A class of errors. Its fields are own properties. */
export type ErrorClass = abstract new (...args: never[]) => Error;

/** The classes of `core`, and those that every program has. */
export const CORE_ERRORS: Readonly<Record<string, ErrorClass>> = {
  Error,
  TypeError,
  RangeError,
  SyntaxError,
  UsageError,
  FormatError,
  UnsupportedError,
  AlreadyQuantizedError,
  DeviceError,
  InterruptedError,
  JsonError,
};

/** Causes of causes that cross. */
const MOST_CAUSES = 8;

/** Returns `error` as plain data. */
export function plainError(error: unknown, causes = MOST_CAUSES): PlainError {
  if (!(error instanceof Error)) {
    return { name: "Error", message: String(error), stack: null, fields: {}, cause: null };
  }
  const { name, message, stack = null, cause, ...own } = Object.fromEntries(
    Object.getOwnPropertyNames(error).map((key) => [key, error[key as keyof Error]]),
  ) as Record<string, unknown>;
  return {
    name: typeof name === "string" ? name : error.name,
    message: typeof message === "string" ? message : error.message,
    stack: typeof stack === "string" ? stack : null,
    fields: plainFields(own),
    cause: cause === undefined || causes === 0 ? null : plainError(cause, causes - 1),
  };
}

/**
 * Returns the error that `plain` was made of: of its class if that is one of `classes`, else an `Error` with its
 * message and fields.
 */
export function restoredError(
  plain: PlainError,
  classes: Readonly<Record<string, ErrorClass>> = CORE_ERRORS,
): Error {
  const { name, message, stack, fields, cause } = plain;
  const options = cause === null ? undefined : { cause: restoredError(cause, classes) };
  const error = new Error(message, options);
  const found = Object.hasOwn(classes, name) ? classes[name] : undefined;
  if (found !== undefined) Object.setPrototypeOf(error, found.prototype);
  // A class of this program names itself in every error; one that every program has does so in its prototype.
  if (found !== undefined && error.name !== name) define(error, "name", name);
  if (stack !== null) define(error, "stack", stack);
  return Object.assign(error, fields);
}

function define(error: Error, key: string, value: string): void {
  Object.defineProperty(error, key, { value, configurable: true, writable: true });
}

/** The fields that are plain data; others are left out. */
function plainFields(fields: Readonly<Record<string, unknown>>): Record<string, PlainValue> {
  return Object.fromEntries(
    Object.entries(fields).flatMap(([key, value]) => {
      const plain = plainValue(value);
      return plain === undefined ? [] : [[key, plain]];
    }),
  );
}

function plainValue(value: unknown): PlainValue | undefined {
  if (value === null || ["string", "number", "boolean"].includes(typeof value)) {
    return value as PlainValue;
  }
  if (Array.isArray(value)) {
    const items = value.map(plainValue);
    return items.every((item) => item !== undefined) ? items : undefined;
  }
  if (typeof value !== "object" || Object.getPrototypeOf(value) !== Object.prototype) {
    return undefined;
  }
  return plainFields(value as Record<string, unknown>);
}
