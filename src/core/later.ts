/**
 * Imports of what a command may not need. Before a program begins, Deno reads every module that an import names
 * by a literal, also of those that wait: a third of the time of a short command. An import of `later("./x.ts")`
 * is read when it is come to. Bundles and binaries must know all modules: they are built from a copy with
 * literals (`scripts/support/stage.ts`). The library loads by literals (`loadStepsBy`) or at once
 * (`provideMoreKinds`), as its users may bundle it, too. Workers have a graph of their own: they read what their
 * part takes.
 */

/** Returns `specifier`. */
export function later<Specifier extends string>(specifier: Specifier): Specifier {
  return specifier;
}
