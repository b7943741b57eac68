import { deepStrictEqual, match, strictEqual } from "node:assert/strict";
import { VERSION } from "../../src/core/version.ts";
import type { CommandContext } from "../../src/cli/context.ts";
import { EventWriter } from "../../src/cli/events.ts";
import { formatBytes, formatSeconds } from "../../src/cli/format.ts";
import { createLog } from "../../src/cli/log.ts";
import { createProgress, progressFacts, truncateName } from "../../src/cli/progress.ts";

function contextTo(lines: string[]): CommandContext {
  return {
    signal: new AbortController().signal,
    workerUrl: new URL("file:///worker.ts"),
    stdout: () => {},
    stderr: (line) => lines.push(line),
    stdoutIsTTY: false,
    stderrIsTTY: false,
    color: false,
    columns: 80,
  };
}

Deno.test("createProgress() writes one plain line per 5 % where stderr is no terminal", async () => {
  const lines: string[] = [];
  const view = await createProgress({ enabled: true, context: contextTo(lines) });
  for (let doneBytes = 0; doneBytes <= 1000; doneBytes++) {
    view.update({ doneBytes, totalBytes: 1000, current: "blocks.0.weight" });
  }
  view.stop();
  strictEqual(lines.length, 20);
  match(lines[0]!, /^ {2}5% {2}50 B of 1\.00 kB .*ETA .*blocks\.0\.weight$/);
  match(lines[19]!, /^100% /);
});

Deno.test("createProgress() skips lines that a jump leaves behind", async () => {
  const lines: string[] = [];
  const view = await createProgress({ enabled: true, context: contextTo(lines) });
  for (const doneBytes of [52, 54, 55, 100]) {
    view.update({ doneBytes, totalBytes: 100, current: "" });
  }
  deepStrictEqual(lines.map((line) => line.slice(0, 4)), [" 52%", " 55%", "100%"]);
});

Deno.test("createProgress() writes nothing where it is off", async () => {
  const lines: string[] = [];
  const view = await createProgress({ enabled: false, context: contextTo(lines) });
  view.update({ doneBytes: 1, totalBytes: 1, current: "" });
  view.stop();
  deepStrictEqual(lines, []);
});

Deno.test("progressFacts() tells rate and time left", () => {
  deepStrictEqual(progressFacts({ doneBytes: 2e9, totalBytes: 6e9, current: "" }, 2000), {
    percent: 33,
    done: "2.00 GB",
    total: "6.00 GB",
    rate: "1.00 GB/s",
    eta: "4.0 s",
  });
});

Deno.test("progressFacts() gives no nonsense at the start and for an empty model", () => {
  strictEqual(progressFacts({ doneBytes: 0, totalBytes: 10, current: "" }, 0).eta, "?");
  strictEqual(progressFacts({ doneBytes: 0, totalBytes: 0, current: "" }, 0).percent, 100);
});

Deno.test("truncateName() keeps the end of a long name", () => {
  strictEqual(truncateName("blocks.10.attn.weight", 8), "….weight");
  strictEqual(truncateName("short", 8), "short");
});

Deno.test("formatBytes() and formatSeconds() round without carrying over", () => {
  deepStrictEqual([0, 999, 1000, 9995, 123_456, 999_949, 999_999, 5e15].map(formatBytes), [
    "0 B",
    "999 B",
    "1.00 kB",
    "10.0 kB",
    "123 kB",
    "1.00 MB",
    "1.00 MB",
    "5.00 PB",
  ]);
  deepStrictEqual([0, 999, 999.9, 59_940, 59_990, 3_599_900, 3_720_000].map(formatSeconds), [
    "0 ms",
    "999 ms",
    "1.0 s",
    "59.9 s",
    "1 min 00 s",
    "1 h 00 min",
    "1 h 02 min",
  ]);
});

Deno.test("createLog() lets through what its level allows, and says a warning once", () => {
  const said = (verbosity: "MINIMAL" | "NORMAL" | "VERBOSE" | "DEBUG") => {
    const lines: string[] = [];
    const log = createLog(verbosity, { stderr: (line) => lines.push(line) });
    log.warn("w");
    log.warn("w");
    log.info("i");
    log.verbose("v");
    log.debug("d");
    return lines;
  };
  deepStrictEqual(said("MINIMAL"), ["warning: w"]);
  deepStrictEqual(said("NORMAL"), ["warning: w", "i"]);
  deepStrictEqual(said("VERBOSE"), ["warning: w", "i", "v"]);
  deepStrictEqual(said("DEBUG"), ["warning: w", "i", "v", "d"]);
});

Deno.test("EventWriter writes one JSON object per event, named first", () => {
  const lines: string[] = [];
  const events = new EventWriter((line) => lines.push(line));
  events.start({ input: "a\nb" });
  events.tensor({ name: "t", errors: null });
  events.done({ totals: {} });
  deepStrictEqual(lines, [
    `{"event":"start","version":"${VERSION}","input":"a\\nb"}`,
    '{"event":"tensor","name":"t","errors":null}',
    '{"event":"done","totals":{}}',
  ]);
});
