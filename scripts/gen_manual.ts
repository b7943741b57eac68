/**
 * Writes `docs/manual.md`, the reference of the command line, from the flag table.
 *
 *     deno run -A scripts/gen_manual.ts            # write it
 *     deno run -A scripts/gen_manual.ts --check    # exit 1 if it is stale
 */

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import {
  type CommandName,
  COMMANDS,
  defaultText,
  type Flag,
  type HelpPage,
} from "../src/cli/flags/flag.ts";
import { FLAGS } from "../src/cli/flags/table.ts";
import { commandHelp } from "../src/cli/help.ts";
import { operand } from "../src/cli/values.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const MANUAL = fileURLToPath(new URL("../docs/manual.md", import.meta.url));

const INTRO = `# Command line

Made from the flag table by \`deno run -A scripts/gen_manual.ts\`: edit \`src/cli/flags/\`, not this page.

\`\`\`
quantsmith model.safetensors                        # INT8 that stock ComfyUI loads
quantsmith SRC [DST] [flags]                        # or -i SRC -o DST
quantsmith SUBCOMMAND ...
\`\`\`

- \`-\` and \`_\` are the same in the names of flags: \`--scaling_mode\` is \`--scaling-mode\`. Values
  follow as \`--flag value\` or \`--flag=value\`.
- A switch is turned off by \`--no-switch\` or \`--switch=False\` (\`0\`, \`no\`).
- \`--merge-loras\` takes every word up to the next flag. \`--\` ends the flags.
- The last of repeated flags counts.
- A subcommand comes first. A file of the same name is written \`./inspect\`.
- Sizes are bytes, or carry a unit: \`500MB\` counts in thousands, \`2GiB\` and \`2G\` in 1024s.
- A flag that cannot change anything in the chosen mode says so once, on stderr.

## Exit codes

| Code | Meaning |
| --- | --- |
| 0 | done |
| 1 | failed: the message names file, tensor and rule |
| 2 | the command line is wrong |
| 130 | interrupted |
`;

const ENVIRONMENT = `## Environment

| Variable | Values | Meaning |
| --- | --- | --- |
| \`NO_COLOR\` | anything | no colours |
| \`CUDA_VISIBLE_DEVICES\` | empty, or \`-1\` | \`--device auto\` takes the CPU |
| \`ENABLE_MIXED_HADAMARD\` | \`auto\`, \`1\`, \`0\` | accepted, no effect: Hadamard transforms stay in f32 |
| \`MIXED_HADAMARD_DTYPE\` | \`bfloat16\`, \`float16\` | accepted, no effect |
| \`STREAMING_AGGRESSIVENESS\` | \`conservative\`, \`balanced\`, \`aggressive\` | default of \`--streaming-mode\`; the first is \`minimal\` |
`;

const PAGE_TITLES: Readonly<Record<HelpPage, string>> = {
  standard: "Standard flags (`--help`)",
  filters: "Flags that choose layers (`--help-filters`, `-hf`)",
  experimental: "Data-driven methods, LoRA merging, editing (`--help-experimental`, `-he`)",
  advanced: "Format, learned rounding, GPU memory (`--help-advanced`, `-ha`)",
};

/** Returns the manual as unformatted Markdown. */
function manual(): string {
  const convert = FLAGS.filter(({ commands }) => commands.includes("convert"));
  const pages = (Object.keys(PAGE_TITLES) as HelpPage[]).map((page) =>
    [`## ${PAGE_TITLES[page]}`, ...themes(convert.filter((flag) => flag.page === page))].join(
      "\n\n",
    )
  );
  return [INTRO, subcommands(), ...pages, ENVIRONMENT].join("\n");
}

function subcommands(): string {
  const parts = COMMANDS.filter((name) => name !== "convert").map((name) => {
    const flags = FLAGS.filter(({ commands }) => commands.includes(name));
    const own = flags.filter(({ commands }) => !commands.includes("convert"));
    const shared = flags.filter((flag) => !own.includes(flag) && flag.theme !== "Help");
    const lines = [`### \`${usageOf(name)}\``, sentence(name)];
    if (own.length > 0) lines.push(table(own));
    if (shared.length > 0) {
      lines.push(
        `Takes, as a conversion does: ${shared.map((flag) => `\`--${flag.name}\``).join(", ")}.`,
      );
    }
    return lines.join("\n\n");
  });
  return ["## Subcommands", ...parts].join("\n\n") + "\n";
}

/** The usage line of a subcommand, as its help page prints it. */
function usageOf(name: CommandName): string {
  const line = plainHelp(name).find((text) => text.startsWith(`  quantsmith ${name}`));
  if (line === undefined) throw new Error(`The help of ${name} has no usage line`);
  return line.trim().replace(/ \[flags\]$/, "");
}

/** The purpose of a subcommand: the first line of its help page. */
function sentence(name: CommandName): string {
  const text = (plainHelp(name)[0] ?? "").replace(/^quantsmith \w+: /, "");
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function plainHelp(name: CommandName): string[] {
  return commandHelp(name, { columns: 100, color: false });
}

function themes(flags: readonly Flag[]): string[] {
  return [...Map.groupBy(flags, ({ theme }) => theme)]
    .flatMap(([theme, rows]) => [`### ${theme}`, table(rows)]);
}

function table(flags: readonly Flag[]): string {
  const rows = flags.map((flag) =>
    `| ${[`\`${formOf(flag)}\``, defaultText(flag), flag.help].map(cell).join(" | ")} |`
  );
  return ["| Flag | Default | What it does |", "| --- | --- | --- |", ...rows].join("\n");
}

function formOf(flag: Flag): string {
  const name = flag.type.kind === "bool" && flag.default === true
    ? `--[no-]${flag.name}`
    : `--${flag.name}`;
  return `${[...(flag.aliases ?? []), name].join(", ")}${operand(flag.type)}`;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}

/** The repository's own formatter decides on widths and line breaks. */
function formatted(markdown: string): string {
  return execFileSync(process.execPath, ["fmt", "--ext", "md", "-"], {
    cwd: ROOT,
    encoding: "utf8",
    input: markdown,
  });
}

const text = formatted(manual());
if (!process.argv.includes("--check")) {
  fs.writeFileSync(MANUAL, text);
} else if (!fs.existsSync(MANUAL) || fs.readFileSync(MANUAL, "utf8") !== text) {
  console.error("docs/manual.md is stale: run `deno run -A scripts/gen_manual.ts`");
  process.exitCode = 1;
}
