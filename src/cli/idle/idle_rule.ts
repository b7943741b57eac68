/** A reason that makes flags idle: given, but unable to change anything in the chosen mode. */

import type { ConvertOptions } from "../../plan/options.ts";
import type { Mode } from "../../plan/scheme_choice.ts";
import type { ConvertIo } from "../request.ts";

/** One reason, and the flags that it makes idle. */
export interface IdleRule {
  readonly when: boolean;
  readonly names: readonly string[];
  readonly why: string;
}

/** The facts that a rule may use. */
export interface IdleFacts {
  readonly options: ConvertOptions;
  readonly io: ConvertIo;
  /** The mode of a layer without settings of its own. */
  readonly mode: Mode;
  /** Single layers have settings of their own, whatever holds for the others. */
  readonly isMixed: boolean;
  /** Some layer may be quantized. */
  readonly quantizes: boolean;
  /** The modes of layers are those of a `--like` file. */
  readonly copiesModes: boolean;
  readonly hasData: boolean;
}

/**
 * Returns one sentence per rule that makes something idle, and the names that they are about. The first
 * rule that makes a flag idle is the one that is reported.
 *
 * @param typed gives what was typed for a name; null if it was not.
 */
export function idleBy(
  rules: readonly IdleRule[],
  typed: (name: string) => string | null,
): { readonly warnings: string[]; readonly told: ReadonlySet<string> } {
  const told = new Set<string>();
  const warnings: string[] = [];
  for (const { when, names, why } of rules) {
    const idle = when ? names.filter((name) => typed(name) !== null && !told.has(name)) : [];
    if (idle.length === 0) continue;
    for (const name of idle) told.add(name);
    warnings.push(sentence(idle.map((name) => typed(name)!), why));
  }
  return { warnings, told };
}

function sentence(names: readonly string[], why: string): string {
  const verb = names.length === 1 ? "has" : "have";
  return `${names.join(", ")} ${verb} no effect ${why}`;
}
