/** `node:path` for the bundler, in the form of POSIX. */

import path from "path-browserify";

export const { basename, dirname, extname, isAbsolute, join } = path;

/** The working folder is the root. */
export function resolve(...parts: readonly string[]): string {
  return path.resolve("/", ...parts);
}

/** As `path.relative`. */
export function relative(from: string, to: string): string {
  return path.relative(resolve(from), resolve(to));
}

/** A page has no folders, so no pattern matches. */
export function matchesGlob(): boolean {
  return false;
}
