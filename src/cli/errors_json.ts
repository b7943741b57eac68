/** Errors as JSON has them: keys in snake case, like all others. */

import { type LayerErrors, MEASURE_NAMES } from "../run/layer_statistics.ts";
import type { LearnedReport } from "../quant/learned/report.ts";

type SnakeCase<Name extends string> = Name extends `${infer Head}${infer Tail}`
  ? `${Head extends Lowercase<Head> ? Head : `_${Lowercase<Head>}`}${SnakeCase<Tail>}`
  : Name;

/** Errors of a stored weight, see `LayerErrors`: `relative_error`, `sqnr_db`, ... */
export type ErrorsJson = {
  readonly [Name in keyof LayerErrors as SnakeCase<Name>]: LayerErrors[Name];
};

/** Returns a name in snake case. */
export function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Returns the errors for JSON. */
export function errorsJson(errors: LayerErrors): ErrorsJson {
  const entries = MEASURE_NAMES.map((name) => [snakeCase(name), errors[name]]);
  return Object.fromEntries(entries) as ErrorsJson;
}

/** Returns errors that JSON had. */
export function errorsOfJson(json: ErrorsJson): LayerErrors {
  const values: Readonly<Record<string, unknown>> = json;
  const entries = MEASURE_NAMES.map((name) => [name, values[snakeCase(name)]]);
  return Object.fromEntries(entries) as unknown as LayerErrors;
}

/** Returns what learned rounding did, for JSON. */
export function learnedJson(
  { lossRatio, errorDb, ...rest }: LearnedReport | Omit<LearnedReport, "trajectory">,
): Record<string, unknown> {
  return { ...rest, loss_ratio: lossRatio, error_db: errorDb };
}
