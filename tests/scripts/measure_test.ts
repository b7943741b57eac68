import { ok, rejects, strictEqual } from "node:assert/strict";
import { hasGnuTime, measure, median, parsePeak } from "../../scripts/support/measure.ts";
import { renderMarkdown, renderTable } from "../../scripts/support/table.ts";

const run = (code: string, options?: Parameters<typeof measure>[2]) =>
  measure(Deno.execPath(), ["eval", code], options);

Deno.test("measure() reports when a line came, and the peak memory of the command", async () => {
  const code = "const keep = new Uint8Array(2e8).fill(1); console.log('a'); console.log(keep[5]);";
  const { seconds, firstSeconds, peakBytes } = await run(code, {
    isFirst: (line) => line === "1",
    memory: true,
  });
  ok(firstSeconds > 0 && firstSeconds <= seconds, `${firstSeconds} of ${seconds}`);
  if (hasGnuTime()) ok(peakBytes > 2e8 && peakBytes < 1e9, `${peakBytes}`);
});

Deno.test("measure() throws with what a failing command said", async () => {
  await rejects(run("console.error('no such thing'); Deno.exit(3)"), /exits 3: no such thing/);
});

Deno.test("parsePeak() reads kilobytes from a report", () => {
  strictEqual(parsePeak("\tMaximum resident set size (kbytes): 1000\n"), 1024000);
  strictEqual(parsePeak("none"), NaN);
});

Deno.test("median() is the middle, or between the two in the middle", () => {
  strictEqual(median([3, 1, 2]), 2);
  strictEqual(median([4, 1, 2, 3]), 2.5);
});

Deno.test("renderTable() and renderMarkdown() align what they are given", () => {
  const rows = [["what", "n"], ["a", "10"], ["long one", ""]];
  strictEqual(renderTable(rows), "what       n\n------------\na         10\nlong one");
  strictEqual(renderMarkdown(rows), "| what | n |\n| --- | ---: |\n| a | 10 |\n| long one |  |");
});
