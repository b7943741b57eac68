/**
 * Layer patterns anchored on path segments. A pattern is one or more segments separated by dots; it
 * matches a name in which those segments follow one another, anywhere: `img_attn.proj` matches
 * `double_blocks.0.img_attn.proj.weight`, and `head` does not match `head_norm.weight`. Inside a
 * segment `*` stands for any run of characters without a dot, so `*` alone matches every name.
 */

import { layerName } from "../core/layer_name.ts";
import type { NamePattern } from "./preset.ts";

/** A compiled list of patterns. Returns the first pattern that matches `name`, or null. */
export type PatternMatcher = (name: string) => string | null;

/**
 * Compiles `patterns` into one matcher.
 *
 * Throws `SyntaxError` for a pattern that is empty or has an empty segment.
 *
 * @example
 * ```ts
 * import { compilePatterns } from "./pattern.ts";
 * const match = compilePatterns(["final_layer", "av_ca_*_adaln_single"]);
 * match("av_ca_a2v_gate_adaln_single.linear.weight"); // "av_ca_*_adaln_single"
 * ```
 */
export function compilePatterns(patterns: readonly string[]): PatternMatcher {
  const compiled = patterns.map((pattern) => ({ pattern, regexp: compile(pattern) }));
  return (name) => compiled.find(({ regexp }) => regexp.test(name))?.pattern ?? null;
}

function compile(pattern: string): RegExp {
  const segments = pattern.split(".");
  if (segments.includes("")) {
    throw new SyntaxError(`Cannot read layer pattern ${JSON.stringify(pattern)}: empty segment`);
  }
  const body = segments.map((segment) =>
    segment.split("*").map((literal) => literal.replace(/[\\^$+?()[\]{}|]/g, "\\$&")).join("[^.]*")
  ).join("\\.");
  return new RegExp(`(?:^|\\.)${body}(?:\\.|$)`);
}

/** Whether `pattern` is found in a tensor's name. */
function isFound(pattern: RegExp | NamePattern, name: string): boolean {
  // `search` ignores the `lastIndex` that a global expression carries from call to call.
  return pattern instanceof RegExp ? name.search(pattern) >= 0 : pattern.test(name);
}

/** Whether `--exclude-layers` means a tensor: by its name, or by that of its layer, as in `attn$`. */
export function isExcluded(pattern: RegExp | NamePattern, name: string): boolean {
  return isFound(pattern, name) || isFound(pattern, layerName(name));
}
