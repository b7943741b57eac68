/** A problem that a verification reports. */

/** One rule that a file breaks. */
export interface Problem {
  /** Name of the layer or tensor; empty if the file as a whole is concerned. */
  readonly layer: string;
  /** Stable id of the rule, in kebab case. */
  readonly rule: string;
  /** Reaction of stock ComfyUI. */
  readonly effect: string;
  /** `error`: it does not load, fails in use, or computes something else. `warning`: it works. */
  readonly severity: "error" | "warning";
  /** The finding and the expectation, as a sentence without its period. */
  readonly detail: string;
  /** Advice, or a program that reads it. */
  readonly hint?: string;
}

/** The effect of codes that reach a model as if they were weights. */
export const RAW_CODES =
  "not recognised as quantized: loads the raw codes as weights, computes garbage";

/** Adds an error to a list of problems, or with `severity` a warning. */
export type Report = (
  rule: string,
  effect: string,
  detail: string,
  more?: Partial<Problem>,
) => void;

/** Returns how problems of `layer` are added to `problems`. */
export function reporter(problems: Problem[], layer: string): Report {
  return (rule, effect, detail, more = {}) => {
    problems.push({ layer, rule, effect, severity: "error", detail, ...more });
  };
}

/** Reports a marker that the stock loader does not know, and who knows it. */
export function reportForeignMarker(report: Report, format: string, hint?: string): void {
  report(
    "format-unknown",
    "KeyError at load",
    `its format is ${JSON.stringify(format)}`,
    hint === undefined ? {} : { hint },
  );
}

/** Reports codes in a layout of others, which the stock loader takes for weights. */
export function reportForeignLayout(report: Report, title: string, tensor: string): void {
  report("foreign-layout", RAW_CODES, `${tensor} is stored as ${title}`);
}
