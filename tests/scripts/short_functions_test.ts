/// <reference lib="deno.unstable" />

import assert from "node:assert/strict";
import rule, { MOST_FILE_LINES, MOST_LINES } from "../../scripts/lint/short_functions.ts";

/** A function of `lines` lines, written in one of the ways there are. */
function functionOf(lines: number, head: string): string {
  return [head, ...Array.from({ length: lines - 2 }, (_, i) => `  void ${i};`), "}"].join("\n");
}

function messages(file: string, text: string): string[] {
  return Deno.lint.runPlugin(rule, file, text).map(({ message }) => message);
}

Deno.test("the rule of short functions counts lines in every way of writing one", () => {
  for (const head of ["function f() {", "const f = () => {", "const f = function () {"]) {
    assert.deepEqual(messages("/x/src/a.ts", functionOf(MOST_LINES, head)), []);
    assert.match(messages("/x/src/a.ts", functionOf(MOST_LINES + 1, head))[0]!, /of 61 lines/);
  }
  const method = `class A {\n${functionOf(MOST_LINES + 1, "f() {")}\n}`;
  assert.equal(messages("/x/src/a.ts", method).length, 1);
});

Deno.test("the rule of short functions counts lines of files, and leaves tests alone", () => {
  const file = "void 0;\n".repeat(MOST_FILE_LINES);
  assert.deepEqual(messages("/x/src/a.ts", file), []);
  assert.match(messages("/x/src/a.ts", `${file}void 0;\n`)[0]!, /A file of 501 lines/);
  assert.deepEqual(messages("/x/tests/a.ts", `${file}${functionOf(200, "function f() {")}`), []);
});
