/**
 * Writes `docs/quantsmith.1`, the man page, from the flag table.
 *
 *     deno run -A scripts/gen_man.ts            # write it
 *     deno run -A scripts/gen_man.ts --check    # exit 1 if it is stale
 *     man ./docs/quantsmith.1                   # read it
 */

import fs from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { defaultText, type Flag } from "../src/cli/flags/flag.ts";
import { FLAGS } from "../src/cli/flags/table.ts";
import { EXAMPLES, SUBCOMMANDS } from "../src/cli/help.ts";
import { operand } from "../src/cli/values.ts";
import { VERSION } from "../src/core/version.ts";

const PAGE = fileURLToPath(new URL("../docs/quantsmith.1", import.meta.url));

/** Returns text as roff takes it: backslashes, dashes, and no line that begins with a command. */
function roff(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll(/^([.'])/gm, "\\&$1");
}

function entry(term: string, text: string): string {
  return `.TP\n.B ${roff(term)}\n${roff(text)}`;
}

function flagEntry(flag: Flag): string {
  const isOn = flag.type.kind === "bool" && flag.default === true;
  const name = isOn ? `--[no-]${flag.name}` : `--${flag.name}`;
  const value = defaultText(flag);
  return entry(
    `${[...(flag.aliases ?? []), name].join(", ")}${operand(flag.type)}`,
    flag.help + (value === "" ? "" : ` [${value}]`),
  );
}

function manPage(): string {
  const themes = Map.groupBy(FLAGS, ({ theme }) => theme);
  return [
    `.\\" Made from the flag table by scripts/gen_man.ts.`,
    `.TH QUANTSMITH 1 "" "quantsmith ${VERSION}" "User Commands"`,
    ".SH NAME",
    "quantsmith \\- quantize safetensors models for ComfyUI",
    ".SH SYNOPSIS",
    ".B quantsmith",
    "SRC [DST] [flags]",
    ".br",
    ".B quantsmith",
    "SUBCOMMAND ... [flags]",
    ".SH DESCRIPTION",
    roff(
      "Turns the weights of a safetensors model into INT8, or another quantized format, that ComfyUI loads. " +
        "The output is written beside the model and appears only when it is complete.",
    ),
    ".PP",
    roff(
      "In flag names - and _ are the same. A switch is turned off by --no-NAME or =False. The last of " +
        "repeated flags counts.",
    ),
    ".SH EXAMPLES",
    ...EXAMPLES.map(([command, text]) => entry(command, text)),
    ".SH SUBCOMMANDS",
    ...SUBCOMMANDS.map(([name, words, text]) => entry(`${name} ${words}`.trim(), text)),
    ...[...themes].flatMap(([theme, flags]) => [
      `.SH "FLAGS: ${roff(theme.toUpperCase())}"`,
      ...flags.map(flagEntry),
    ]),
    ".SH EXIT STATUS",
    entry("0", "done"),
    entry("1", "failed: the message names file, tensor and rule"),
    entry("2", "the command line is wrong"),
    entry("130", "interrupted"),
    ".SH ENVIRONMENT",
    entry("NO_COLOR", "no colours"),
    entry("CUDA_VISIBLE_DEVICES", "empty or -1: --device auto takes the CPU"),
    entry("HF_TOKEN", "opens gated models of the Hugging Face Hub"),
    "",
  ].join("\n");
}

const text = manPage();
if (!process.argv.includes("--check")) {
  fs.writeFileSync(PAGE, text);
} else if (!fs.existsSync(PAGE) || fs.readFileSync(PAGE, "utf8") !== text) {
  console.error("docs/quantsmith.1 is stale: run `deno run -A scripts/gen_man.ts`");
  process.exitCode = 1;
}
