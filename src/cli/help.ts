/** The help pages, made from the flag table. */

import { styleText } from "node:util";
import { UsageError } from "../core/errors.ts";
import { groupBy } from "../core/group_by.ts";
import { nearestOr } from "../core/nearest.ts";
import { type CommandName, COMMANDS, defaultText, type Flag, type HelpPage } from "./flags/flag.ts";
import { FLAGS } from "./flags/table.ts";
import { operand } from "./values.ts";
import { wrap } from "./wrap.ts";

/** How a page is laid out. */
export interface HelpLayout {
  readonly columns: number;
  readonly color: boolean;
}

const MAX_COLUMNS = 100;
const MIN_COLUMNS = 50;

/** Column of the help texts; longer flags get a line of their own. */
const HELP_COLUMN = 34;

/** The subcommands in the order of the help: arguments, and what they do. */
export const SUBCOMMANDS: readonly (readonly [CommandName, string, string])[] = [
  ["inspect", "FILE", "show what is in a file"],
  [
    "verify",
    "FILE [--source SRC]",
    "check that it loads in stock ComfyUI, measure its error against the source",
  ],
  [
    "compare",
    "A B [--source SRC]",
    "compare two conversions: their reports (JSON), or the files with --source",
  ],
  ["join", "FILE", "join the parts of a conversion (--part I/N)"],
  ["dequantize", "FILE [DST]", "restore BF16, F16 or F32"],
  [
    "batch",
    "FILE... | -d DIR",
    "convert many models, one after the other; takes the flags of a conversion too",
  ],
  ["edit", "FILE [DST]", "change markers and metadata of a quantized file, remove tensors"],
  ["migrate", "FILE [DST]", "make a quantized file of another tool loadable by stock ComfyUI"],
  [
    "calibrate",
    "FILE [DST]",
    "record what a text encoder takes in (--texts), or write synthetic statistics",
  ],
  ["presets", "list | show NAME | detect FILE", "list model families, identify a file"],
  ["completions", "bash | zsh | fish | powershell", "print completions for a shell"],
  ["doctor", "", "list usable devices, check their results, suggest flags"],
  ["ui", "", "convert in a page of your browser, on this machine only"],
];

/** More on a subcommand than its line in the list. */
const NOTES: Readonly<Partial<Record<CommandName, string>>> = {
  calibrate: "--lora FILE, --samples N and --seed N are short for the flags above. " +
    "With --texts FILE --tokenizer FILE texts are run through the text encoder (T5, Llama, Qwen, " +
    "Mistral, Gemma, CLIP, BERT), and rows of real inputs are written for --calibration-data. " +
    "Without, DST ends with .json or .safetensors; synthetic data is marked, and rounding does not " +
    "use it.",
  doctor:
    "Every kernel runs on every GPU that can be asked for, a software one too, and is compared " +
    "with plain code; the kernels of the default mode are timed. --verbose VERBOSE lists every kernel. " +
    "It takes a few seconds; the exit code is always 0.",
  edit: "If there is nothing to change, nothing is written.",
  migrate:
    "If the file already loads, nothing is written and the exit code is 0. --format FORMAT " +
    "also puts layers that load into that format, without the original weights, and reports the " +
    "error that this adds.",
};

/** Commands to begin with, and what they do. */
export const EXAMPLES: readonly (readonly [string, string])[] = [
  ["quantsmith model.safetensors", "INT8 that stock ComfyUI loads, the family detected"],
  [
    "quantsmith hf://owner/repo",
    "the same for a model of the Hugging Face Hub, without a download",
  ],
  [
    "quantsmith model.safetensors --dry-run",
    "show the plan: groups of layers, formats and reasons",
  ],
  [
    "quantsmith model.safetensors out.safetensors --scaling_mode tensor --report-quality",
    "one scale per tensor, and the errors of the worst layers",
  ],
];

const PAGE_TITLES: Readonly<Record<HelpPage, string>> = {
  standard: "",
  filters: "Flags that choose layers",
  experimental: "Flags of calibration, GPTQ, QuIP, LoRA merging and editing",
  advanced: "Flags of the format, learned rounding and GPU memory",
};

/** Printed if nothing was asked for. */
export const SHORT_USAGE: readonly string[] = Object.freeze([
  "Usage: quantsmith SRC [DST] [flags]",
  "",
  "  quantsmith model.safetensors             INT8 that stock ComfyUI loads",
  "  quantsmith model.safetensors --dry-run   show the plan, write nothing",
  "  quantsmith inspect model.safetensors   show what is in a file",
  "  quantsmith --help                        subcommands and flags",
]);

/**
 * Returns the lines of `quantsmith help [SUBCOMMAND]`.
 *
 * @throws UsageError for a word that is no subcommand.
 */
export function helpOn([command, extra]: readonly string[], layout: HelpLayout): string[] {
  if (command === undefined) return helpPage("standard", layout);
  if (extra !== undefined) throw new UsageError(`Unexpected argument ${JSON.stringify(extra)}`);
  const known = COMMANDS.find((name) => name === command);
  if (known === undefined) {
    throw new UsageError(
      `Unknown subcommand ${JSON.stringify(command)}: ${
        nearestOr(`there are ${COMMANDS.slice(1).join(", ")}`, command, COMMANDS.slice(1))
      }`,
    );
  }
  return known === "convert" ? helpPage("standard", layout) : commandHelp(known, layout);
}

/** Returns the lines of a help page. Each flag of a conversion stands on exactly one. */
export function helpPage(page: HelpPage, layout: HelpLayout): string[] {
  const print = new Printer(layout);
  if (page === "standard") {
    print.text("quantsmith turns safetensors model weights into INT8 that ComfyUI loads.");
    print.heading("Usage");
    print.verbatim("  quantsmith SRC [DST] [flags]");
    print.verbatim("  quantsmith SUBCOMMAND ...");
    print.heading("Examples");
    for (const [command, what] of EXAMPLES) print.example(command, what);
    print.heading("Subcommands (`quantsmith help SUBCOMMAND` for details)");
    for (const [name, words, what] of SUBCOMMANDS) print.entry(`${name} ${words}`.trim(), what);
  } else {
    print.text(PAGE_TITLES[page]);
  }
  print.flags(FLAGS.filter((flag) => flag.page === page && flag.commands.includes("convert")));
  print.blank();
  print.text(
    page === "standard"
      ? "More flags: --help-filters (-hf), --help-experimental (-he), --help-advanced (-ha)."
      : "`quantsmith --help` lists the standard flags.",
  );
  print.text("`-` and `_` are the same in flags; a switch takes --no-x and =False.");
  return print.lines;
}

/** Returns the lines of the help of one subcommand. */
export function commandHelp(command: CommandName, layout: HelpLayout): string[] {
  const print = new Printer(layout);
  const [, words, what] = SUBCOMMANDS.find(([name]) => name === command) ?? [command, "", ""];
  print.text(`quantsmith ${command}: ${what}`);
  print.heading("Usage");
  print.verbatim(`  quantsmith ${`${command} ${words}`.trim()} [flags]`);
  const note = NOTES[command];
  if (note !== undefined) {
    print.blank();
    print.text(note);
  }
  print.flags(FLAGS.filter((flag) => flag.commands.includes(command)));
  return print.lines;
}

/** Collects the lines of a page, wrapped to the width of the terminal. */
class Printer {
  readonly lines: string[] = [];
  readonly #width: number;
  readonly #color: boolean;

  constructor({ columns, color }: HelpLayout) {
    this.#width = Math.max(MIN_COLUMNS, Math.min(columns, MAX_COLUMNS));
    this.#color = color;
  }

  blank(): void {
    this.lines.push("");
  }

  verbatim(line: string): void {
    this.lines.push(line);
  }

  text(text: string): void {
    this.lines.push(...wrap(text, this.#width));
  }

  heading(title: string): void {
    this.blank();
    this.lines.push(this.#style("bold", `${title}:`));
  }

  example(command: string, what: string): void {
    this.lines.push(`  ${this.#style("cyan", command)}`);
    this.lines.push(...wrap(what, this.#width - 6).map((line) => `      ${line}`));
  }

  entry(left: string, right: string): void {
    const [first = "", ...more] = wrap(right, this.#width - HELP_COLUMN);
    const painted = this.#style("cyan", left);
    const pad = " ".repeat(HELP_COLUMN);
    if (left.length + 4 > HELP_COLUMN) {
      this.lines.push(`  ${painted}`, `${pad}${first}`);
    } else {
      this.lines.push(`  ${painted}${" ".repeat(HELP_COLUMN - 2 - left.length)}${first}`);
    }
    this.lines.push(...more.map((line) => pad + line));
  }

  flags(flags: readonly Flag[]): void {
    for (const [theme, rows] of groupBy(flags, (flag) => flag.theme)) {
      this.heading(theme);
      for (const flag of rows) this.entry(leftOf(flag), rightOf(flag));
    }
  }

  #style(format: "bold" | "cyan", text: string): string {
    // Whether colour is wanted was decided for the whole run.
    return this.#color ? styleText(format, text, { validateStream: false }) : text;
  }
}

function leftOf(flag: Flag): string {
  // A switch that is on by default is only ever typed to turn it off.
  const off = flag.type.kind === "bool" && flag.default === true && flag.name !== "int8";
  const name = off ? `--[no-]${flag.name}` : `--${flag.name}`;
  return `${[...(flag.aliases ?? []), name].join(", ")}${operand(flag.type)}`;
}

function rightOf(flag: Flag): string {
  const value = defaultText(flag);
  return value === "" ? flag.help : `${flag.help} [${value}]`;
}
