import { deepStrictEqual, match, ok, strictEqual } from "node:assert/strict";
import { EventWriter } from "../../src/cli/events.ts";
import { escapeControls, shownLine } from "../../src/cli/shown_text.ts";
import { runCli } from "../support/run_cli.ts";

Deno.test("shownLine() spells out what a terminal obeys: ESC, OSC, CR, line feed, C1, reordering", () => {
  strictEqual(shownLine("a\x1b]0;title\x07b\rc\nd"), "a\\u001b]0;title\\u0007b\\u000dc\\u000ad");
  strictEqual(shownLine("\x9b2J\x7f\u202egpj"), "\\u009b2J\\u007f\\u202egpj");
  strictEqual(shownLine("größe\t12 MB, 重み"), "größe\t12 MB, 重み");
});

Deno.test("escapeControls() leaves JSON what it says", () => {
  const value = { name: "a\x1b\x7f\x85\u2028\u202eb" };
  deepStrictEqual(JSON.parse(escapeControls(JSON.stringify(value))), value);
});

Deno.test("shownLine() has no doubled backslashes in quoted paths and patterns", () => {
  const path = "C:\\models\\flux dev.safetensors", server = "\\\\nas\\models\\a";
  for (const name of [path, server, "blocks\\.0\\."]) {
    strictEqual(
      shownLine(`Cannot read ${JSON.stringify(name)}: why`),
      `Cannot read "${name}": why`,
    );
  }
  strictEqual(shownLine('Cannot read "a\\"b", "c": why'), 'Cannot read "a\\"b", "c": why');
  const lines: string[] = [];
  const events = new EventWriter((line) => lines.push(line));
  events.error({ name: "E", message: `Cannot read ${JSON.stringify(path)}`, exit_code: 1 });
  events.warning(`Cannot read ${JSON.stringify(path)}`);
  for (const line of lines) strictEqual(JSON.parse(line).message, `Cannot read "${path}"`);
});

Deno.test("shownLine() bounds a name of 40 MB and says how much it left out", () => {
  const line = shownLine("x".repeat(40_000_000));
  ok(line.length < 5000);
  match(line, /\.\.\. \(\d+ more characters\)$/);
});

Deno.test("shownLine() leaves out queries, passwords and tokens", () => {
  strictEqual(
    shownLine("error sending request for url (https://cdn.example/a.safetensors?sig=abc&k=1): x"),
    "error sending request for url (https://cdn.example/a.safetensors?...): x",
  );
  strictEqual(shownLine("https://me:secret@example.com/a"), "https://example.com/a");
  strictEqual(shownLine("authorization: Bearer abcdef.ghijkl"), "authorization: Bearer ...");
  strictEqual(shownLine("hf_abcdefghijkl"), "hf_...");
});

Deno.test("run() prints no control character of a file name, also with causes", async () => {
  const { code, stderr } = await runCli([
    "inspect",
    "no\x1b]0;x\x07\x9b.safetensors",
    "--verbose",
    "DEBUG",
  ]);
  strictEqual(code, 1);
  // deno-lint-ignore no-control-regex
  ok(!/[\x00-\x09\x0b-\x1f\x7f-\x9f]/.test(stderr), JSON.stringify(stderr));
  match(stderr, /\\u001b/);
});
