/** A line for people as a terminal shows it: wrapped at words, its label in colour. Pure. */

import { styleText } from "node:util";
import { wrap } from "./wrap.ts";

/** How lines are laid out. */
export interface ScreenLayout {
  /** Width of the terminal in characters. */
  readonly columns: number;
  /** Whether labels are coloured. */
  readonly color: boolean;
}

/** Lines are never wrapped to less than this. */
const MIN_COLUMNS = 40;

/** Wrapped lines begin at most this far to the right. */
const MAX_INDENT = 14;

const STYLES = {
  error: ["bold", "red"],
  warning: ["bold", "yellow"],
  help: ["bold", "cyan"],
  done: ["bold", "green"],
} as const;

/**
 * Returns `line` as one or more lines of at most `columns` characters. The lines that follow the first
 * are indented: to the second column of a line like `  size     12 GB`, otherwise by two spaces more.
 * The labels `error:`, `warning:`, `help:` and `done:` are coloured, other labels are bold.
 */
export function screenLines(line: string, { columns, color }: ScreenLayout): string[] {
  const { start, indent } = hanging(line);
  const width = Math.max(MIN_COLUMNS, columns) - Math.max(indent, start.length);
  const [first = "", ...more] = wrap(line.slice(start.length), width);
  const lines = [start + first, ...more.map((text) => " ".repeat(indent) + text)];
  return color ? [painted(lines[0]!), ...lines.slice(1)] : lines;
}

/** The start of a line that stays together, and the indentation of the lines that follow. */
function hanging(line: string): { readonly start: string; readonly indent: number } {
  const titled = /^ *\S+ {2,}(?=\S)/.exec(line)?.[0] ?? "";
  if (titled !== "" && titled.length <= MAX_INDENT) return { start: titled, indent: titled.length };
  const start = /^ */.exec(line)![0];
  return { start, indent: Math.min(MAX_INDENT, start.length + 2) };
}

/** Returns the line with its label, if it begins with one, in colour. */
function painted(line: string): string {
  const [label] = /^[a-z]+(?=: )/.exec(line) ?? [];
  if (label !== undefined) {
    const style = Object.hasOwn(STYLES, label) ? STYLES[label as keyof typeof STYLES] : ["bold"];
    return paint(style as readonly Style[], `${label}:`) + line.slice(label.length + 1);
  }
  const [title] = /^ {2}[a-z]+(?= {2})/.exec(line) ?? [];
  return title === undefined ? line : paint(["dim"], title) + line.slice(title.length);
}

type Style = "bold" | "dim" | "red" | "yellow" | "cyan" | "green";

function paint(style: readonly Style[], text: string): string {
  // Whether colour is wanted was decided for the whole run.
  return styleText([...style], text, { validateStream: false });
}

/**
 * Returns a line of a report on stdout as a terminal shows it: sentences wrapped at words, headings in bold,
 * failures in colour. JSON and rows of tables, which have two spaces between columns, stay one line.
 */
export function reportLines(line: string, { columns, color }: ScreenLayout): string[] {
  const isProse = !/^[{[]/.test(line) && !/\S {2}/.test(line);
  const indent = " ".repeat(line.length - line.trimStart().length + 2);
  const [first = "", ...more] = isProse ? wrap(line, Math.max(MIN_COLUMNS, columns)) : [line];
  const lines = [
    first,
    ...wrap(more.join(" "), Math.max(MIN_COLUMNS, columns - indent.length)).map((text) =>
      indent + text
    ),
  ].slice(0, more.length === 0 ? 1 : undefined);
  return color ? lines.map((text) => paintedReport(text, line)) : lines;
}

function paintedReport(text: string, line: string): string {
  if (/^\S.*:$/.test(line)) return paint(["bold"], text);
  return text
    .replace(/\bdoes NOT [a-z ]+$/, (words) => paint(["bold", "red"], words))
    .replace(/\(below [\d.]+ dB\)$/, (words) => paint(["yellow"], words));
}
