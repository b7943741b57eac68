import { deepStrictEqual, match, ok, strictEqual } from "node:assert/strict";
import { VERSION } from "../../src/core/version.ts";
import type { CommandContext } from "../../src/cli/context.ts";
import { EventWriter } from "../../src/cli/events.ts";
import { formatBytes, formatEta, formatSeconds } from "../../src/cli/format.ts";
import { createLog } from "../../src/cli/log.ts";
import { shortName } from "../../src/cli/format.ts";
import {
  barLayout,
  type Bars,
  createBar,
  createProgress,
  progressFacts,
} from "../../src/cli/progress.ts";

function contextTo(lines: string[]): CommandContext {
  return {
    signal: new AbortController().signal,
    workerUrl: new URL("file:///worker.ts"),
    early: null,
    stdout: () => {},
    styled: () => {},
    stderr: (line) => lines.push(line),
    stdoutIsTTY: false,
    stderrIsTTY: false,
    canDraw: false,
    color: false,
    columns: 80,
  };
}

Deno.test("createProgress() writes one plain line per 5 % if stderr is no terminal", () => {
  const lines: string[] = [];
  const view = createProgress({ enabled: true, context: contextTo(lines) });
  for (let doneBytes = 0; doneBytes <= 1000; doneBytes++) {
    view.update({ doneBytes, totalBytes: 1000, current: "blocks.0.weight" });
  }
  view.stop();
  strictEqual(lines.length, 20);
  match(lines[0]!, /^ {2}5% {2}50 B of 1\.00 kB .*ETA .*blocks\.0\.weight$/);
  match(lines[19]!, /^100% /);
});

Deno.test("createProgress() skips lines that a jump leaves behind", () => {
  const lines: string[] = [];
  const view = createProgress({ enabled: true, context: contextTo(lines) });
  for (const doneBytes of [52, 54, 55, 100]) {
    view.update({ doneBytes, totalBytes: 100, current: "" });
  }
  deepStrictEqual(lines.map((line) => line.slice(0, 4)), [" 52%", " 55%", "100%"]);
});

Deno.test("createProgress() writes nothing if it is off", () => {
  const lines: string[] = [];
  const view = createProgress({ enabled: false, context: contextTo(lines) });
  view.update({ doneBytes: 1, totalBytes: 1, current: "" });
  view.stop();
  deepStrictEqual(lines, []);
});

/** A package of bars that takes down what is asked of it, and loads when `loaded` is called. */
function fakeBars() {
  const calls: string[] = [];
  let loaded = () => {};
  const load = () => {
    calls.push("load");
    return new Promise<Bars>((resolve) =>
      loaded = () =>
        resolve({
          SingleBar: class {
            start = (total: number, value: number) => calls.push(`start ${value} of ${total}`);
            update = (value: number) => calls.push(`update ${value}`);
            stop = () => calls.push("stop");
          },
          Presets: { shades_classic: {} },
        })
    );
  };
  return { calls, load, loaded: () => (loaded(), new Promise((resolve) => setTimeout(resolve))) };
}

const state = (doneBytes: number) => ({ doneBytes, totalBytes: 10, current: "" });

Deno.test("createBar() loads what draws it at the first progress, and shows the latest once that is there", async () => {
  const { calls, load, loaded } = fakeBars(), view = createBar({ columns: 80 }, load);
  deepStrictEqual(calls, []);
  view.update(state(1));
  view.update(state(3));
  deepStrictEqual(calls, ["load"]);
  await loaded();
  view.update(state(5));
  view.stop();
  deepStrictEqual(calls, ["load", "start 3 of 10", "update 5", "stop"]);
});

Deno.test("createBar() draws nothing for work that ends before, or is done at once", async () => {
  const ended = fakeBars(), view = createBar({ columns: 80 }, ended.load);
  view.update(state(1));
  view.stop();
  await ended.loaded();
  deepStrictEqual(ended.calls, ["load"]);
  const whole = fakeBars(), other = createBar({ columns: 80 }, whole.load);
  other.update(state(10));
  other.stop();
  deepStrictEqual(whole.calls, []);
});

Deno.test("progressFacts() reports rate and time left", () => {
  deepStrictEqual(progressFacts({ doneBytes: 2e9, totalBytes: 6e9, current: "" }, 2000), {
    percent: 33,
    done: "2.00 GB",
    total: "6.00 GB",
    rate: "1.00 GB/s",
    eta: "4 s",
  });
});

Deno.test("progressFacts() gives no nonsense at the start and for an empty model", () => {
  strictEqual(progressFacts({ doneBytes: 0, totalBytes: 10, current: "" }, 0).eta, "?");
  strictEqual(progressFacts({ doneBytes: 0, totalBytes: 0, current: "" }, 0).percent, 100);
});

Deno.test("shortName() keeps the last segments of a long name", () => {
  strictEqual(
    shortName("double_blocks.17.img_attn.qkv.weight", 40),
    "double_blocks.17.img_attn.qkv",
  );
  strictEqual(shortName("double_blocks.17.img_attn.qkv.weight", 18), "…17.img_attn.qkv");
  strictEqual(shortName("double_blocks.17.img_attn.qkv.weight", 15), "…img_attn.qkv");
  strictEqual(shortName("blocks.10.attention_output", 8), "…_output");
  strictEqual(shortName("short", 8), "short");
});

Deno.test("barLayout() leaves room for the name of a layer and fits the terminal", () => {
  // Percent, sizes, rate and ETA at their longest.
  const facts = " 100%  99.9 GB of 99.9 GB  99.9 MB/s  ETA 59 min 59 s  ".length;
  for (const columns of [80, 100, 120, 200]) {
    const { bar, name } = barLayout(columns);
    ok(bar + facts + name <= columns + 2, `${columns}`);
    ok(name >= 16, `${columns}`);
  }
});

Deno.test("formatEta() counts in whole seconds", () => {
  deepStrictEqual([0, 300, 4000, 12_345, 59_000, 59_001, 61_000, 3_720_000].map(formatEta), [
    "0 s",
    "1 s",
    "4 s",
    "13 s",
    "59 s",
    "1 min 00 s",
    "1 min 01 s",
    "1 h 02 min",
  ]);
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
