/**
 * Runs the tests, shows their output as it comes, and ends with one line: `N passed, N failed`.
 *
 *     deno task test [arguments of deno test]
 *
 * Exits as the tests do. Arguments that name paths replace the default, `tests/`.
 */

import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseTestSummary, summaryLine, verdictOfTests } from "./support/test_summary.ts";

/** Test files that run at a time: two are nearly twice as fast as one, more crowd a small machine. */
const JOBS = "2";

/** The summary is at the end: no more of the output is kept than this many characters. */
const TAIL_LENGTH = 1 << 16;

const args = process.argv.slice(2);
const namesPaths = args.some((arg) => /^[^-].*(\/|\.ts$)/.test(arg));
const child = spawn(
  process.execPath,
  [
    "test",
    "-A",
    // Only tests need what this config has more than deno.json.
    "--config=deno.dev.json",
    "--parallel",
    "--preload=tests/support/fixed_seed.ts",
    ...args,
    // Those have a task of their own: they take minutes, and browsers.
    ...(namesPaths ? [] : ["--ignore=tests/browser", "tests/"]),
  ],
  {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    env: { DENO_JOBS: JOBS, ...process.env },
    stdio: ["inherit", "pipe", "inherit"],
  },
);

/** No test takes this long: without a line for so many milliseconds, what runs hangs. */
const HANG_MS = 600_000;

const hang: NodeJS.Timeout = setTimeout(() => {
  console.error(`No test has ended for ${HANG_MS / 60_000} minutes: the tests are stopped`);
  child.kill("SIGKILL");
}, HANG_MS);
let tail = "";
const decoder = new TextDecoder();
child.stdout.on("data", (chunk: Uint8Array) => {
  hang.refresh();
  process.stdout.write(chunk);
  tail = (tail + decoder.decode(chunk, { stream: true })).slice(-TAIL_LENGTH);
});
child.on("close", (code, signal) => {
  clearTimeout(hang);
  const verdict = verdictOfTests({ code, signal, summary: parseTestSummary(tail) });
  if (verdict.remark !== null) console.error(verdict.remark);
  console.log(summaryLine(verdict));
  process.exitCode = verdict.failed === 0 ? 0 : code || 1;
});
