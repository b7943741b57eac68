/** Validates JSON against the schemas in `docs/schema`, and against keys that they do not document. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import Ajv2020, { type ErrorObject } from "ajv/2020";

type Schema = Record<string, unknown>;

/** Returns a schema of `docs/schema`. */
export function schemaOf(name: string): Schema {
  return JSON.parse(readFileSync(new URL(`../../docs/schema/${name}`, import.meta.url), "utf8"));
}

/**
 * Returns a function that fails unless a value follows the schema and has no key that it leaves out: users may
 * get more keys, but what is written today has to be documented.
 */
export function checkerOf(schema: Schema): (value: unknown) => void {
  // deno-lint-ignore no-explicit-any
  const ajv = new (Ajv2020 as any)({
    allErrors: true,
    strict: false,
    formats: { "date-time": true },
  });
  const validate = ajv.compile(closed(schema));
  return (value) => {
    if (validate(value)) return;
    const errors: ErrorObject[] = validate.errors;
    const text = errors.map(({ instancePath, message, params }) =>
      `${instancePath} ${message} ${JSON.stringify(params)}`
    );
    assert.fail(`${text.join("\n")}\n${JSON.stringify(value).slice(0, 500)}`);
  };
}

/** The schema with no further keys in objects whose keys it names. */
function closed(value: unknown): Schema {
  if (Array.isArray(value)) return value.map(closed) as unknown as Schema;
  if (typeof value !== "object" || value === null) return value as unknown as Schema;
  const entries = Object.entries(value).map(([key, inner]) => [key, closed(inner)]);
  const schema = Object.fromEntries(entries) as Schema;
  const isObject = "properties" in schema && "required" in schema;
  return isObject && !("additionalProperties" in schema)
    ? { ...schema, additionalProperties: false }
    : schema;
}

/** Returns the keys that are not in snake case, with their places; keys of maps may be skipped. */
export function oddKeys(value: unknown, skip: readonly string[] = [], place = ""): string[] {
  if (Array.isArray(value)) return value.flatMap((inner) => oddKeys(inner, skip, `${place}[]`));
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => [
    ...(/^[a-z0-9]+(_[a-z0-9]+)*$/.test(key) ? [] : [`${place}.${key}`]),
    ...(skip.includes(key) ? [] : oddKeys(inner, skip, `${place}.${key}`)),
  ]);
}
