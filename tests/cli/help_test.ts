import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import { completionScript } from "../../src/cli/completions.ts";
import { COMMANDS, type HelpPage } from "../../src/cli/flags/flag.ts";
import { FLAGS, spelling } from "../../src/cli/flags/table.ts";
import { commandHelp, helpPage } from "../../src/cli/help.ts";
import { wrap } from "../../src/cli/wrap.ts";
import { SWITCHES, VALUED } from "./documented_flags.ts";

const PLAIN = { columns: 100, color: false };
const PAGES: readonly HelpPage[] = ["standard", "filters", "experimental", "advanced"];
const DOCUMENTED = [...SWITCHES, ...Object.keys(VALUED)];

/** The flags that a page explains: those at the start of an entry. */
function flagsOf(lines: readonly string[]): string[] {
  return lines.flatMap((line) => {
    const entry = /^ {2}(?:-\w+, )*--(\[no-\])?([\w-]+)/.exec(line);
    return entry === null ? [] : [entry[2]!];
  });
}

Deno.test("helpPage() explains every documented flag on exactly one page", () => {
  const pages = PAGES.map((page) => flagsOf(helpPage(page, PLAIN)));
  for (const name of DOCUMENTED) {
    strictEqual(pages.filter((flags) => flags.includes(name)).length, 1, name);
  }
  const all = pages.flat();
  strictEqual(new Set(all).size, all.length);
});

Deno.test("the flag table names nothing twice, and each flag has help and a command", () => {
  const forms = FLAGS.flatMap((flag) => [`--${flag.name}`, ...(flag.aliases ?? [])].map(spelling));
  strictEqual(new Set(forms).size, forms.length);
  for (const flag of FLAGS) {
    ok(flag.help.length > 5 && !flag.help.endsWith("."), flag.name);
    ok(flag.commands.length > 0, flag.name);
  }
});

Deno.test("helpPage() begins with usage and an example that needs no flag", () => {
  const lines = helpPage("standard", PLAIN);
  const examples = lines.filter((line) => line.startsWith("  quantsmith "));
  ok(lines.includes("Usage:"));
  ok(examples.includes("  quantsmith model.safetensors"));
  const text = lines.join("\n");
  for (const page of ["--help-filters", "--help-experimental", "--help-advanced"]) {
    ok(text.includes(page), page);
  }
  for (const command of COMMANDS) ok(command === "convert" || text.includes(command), command);
});

Deno.test("helpPage() keeps to the terminal's width, and to 100 columns", () => {
  for (const [columns, most] of [[60, 60], [80, 80], [300, 100]] as const) {
    for (const page of PAGES) {
      for (const line of helpPage(page, { columns, color: false })) {
        const unbreakable = line.startsWith("  quantsmith") || line.startsWith("  -");
        ok(line.length <= most || unbreakable, `${columns}: ${line}`);
      }
    }
  }
});

Deno.test("helpPage() colours only if it is asked to", () => {
  ok(!helpPage("standard", PLAIN).join("").includes("\x1b"));
  ok(helpPage("standard", { columns: 80, color: true }).join("").includes("\x1b["));
});

Deno.test("commandHelp() explains the flags of its subcommand and no others", () => {
  ok(flagsOf(commandHelp("verify", PLAIN)).includes("source"));
  ok(!flagsOf(commandHelp("verify", PLAIN)).includes("block_size"));
  ok(flagsOf(commandHelp("dequantize", PLAIN)).includes("output-dtype"));
});

Deno.test("wrap() breaks at spaces and keeps every word", () => {
  deepStrictEqual(wrap("aa bb cc", 5), ["aa bb", "cc"]);
  deepStrictEqual(wrap("unbreakable a", 4), ["unbreakable", "a"]);
  deepStrictEqual(wrap("", 4), [""]);
});

Deno.test("completionScript() offers every documented flag in every shell", () => {
  for (const shell of ["bash", "zsh", "fish"] as const) {
    const script = completionScript(shell);
    for (const name of DOCUMENTED) {
      ok(script.includes(shell === "fish" ? `-l ${name} ` : `--${name}`), `${shell} ${name}`);
    }
    for (const command of ["inspect", "verify", "dequantize"]) ok(script.includes(command));
  }
});
