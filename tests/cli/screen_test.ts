import assert from "node:assert/strict";
import { stripVTControlCharacters } from "node:util";
import { reportLines, screenLines } from "../../src/cli/screen.ts";

const LONG =
  'Cannot read "model.safetensors": the header is 12 bytes long, and the file ends at byte 9';

Deno.test("screenLines() wraps at words within the terminal and changes no word", () => {
  for (const columns of [40, 60, 80]) {
    for (const line of [`error: ${LONG}`, `warning: ${LONG}`, `  next     ${LONG}`]) {
      const lines = screenLines(line, { columns, color: false });
      assert.ok(lines.every((each) => each.length <= columns), lines.join("\n"));
      const words = (text: string) => text.split(/\s+/).filter((word) => word !== "");
      assert.deepEqual(words(lines.join(" ")), words(line));
    }
  }
});

Deno.test("screenLines() continues a titled line in its second column", () => {
  const [, second] = screenLines(`  next     ${LONG}`, { columns: 40, color: false });
  assert.match(second!, /^ {11}\S/);
});

Deno.test("screenLines() colours labels, and nothing without colour", () => {
  const shown = (line: string, color: boolean) => screenLines(line, { columns: 80, color })[0]!;
  assert.ok(shown("error: x", true).includes("\u001b[31m"));
  assert.ok(shown("warning: x", true).includes("\u001b[33m"));
  assert.ok(shown("help: x", true).includes("\u001b[36m"));
  for (const line of ["error: x", "plan: 3 kept", "  size     3 MB", "no label"]) {
    assert.equal(shown(line, false), line);
    assert.equal(stripVTControlCharacters(shown(line, true)), line);
  }
});

Deno.test("reportLines() leaves JSON and rows of tables on one line", () => {
  const layout = { columns: 40, color: true };
  const json = JSON.stringify({ text: LONG });
  const row = `  2 x double_blocks.N.img_attn.qkv  BF16 [9216, 3072]  56.6 MB -> 28.3 MB`;
  assert.deepEqual(reportLines(json, layout), [json]);
  assert.deepEqual(reportLines(row, layout), [row]);
  const lines = reportLines(`${LONG}:`, { columns: 40, color: false });
  assert.ok(lines.length > 1 && lines.every((line) => line.length <= 40));
});
