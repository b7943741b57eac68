/**
 * Converts a file in headless Chromium and by the program, and compares wall time, processor time and
 * memory. Linux only.
 *
 *     deno run -A --config deno.dev.json scripts/bench_web.ts MODEL [--rounds 1] [--simple] [--save]
 *
 * `--simple`: plain rows instead of the default. `--save`: to a picked file instead of the browser's storage.
 * Memory is that of all processes of the browser above an empty page, the most of samples every 500 ms.
 */

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chooseFiles, openPage } from "../tests/support/browser.ts";
import { treeUse } from "./support/process_tree.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "1" },
    simple: { type: "boolean", default: false },
    save: { type: "boolean", default: false },
  },
});
const [model] = positionals;
if (model === undefined || positionals.length > 1) {
  console.error("Usage: bench_web.ts MODEL [--rounds N] [--simple] [--save]");
  process.exit(2);
}
// Reading what a process takes holds it up: the more often, the more of its own time is measured.
const SAMPLE_MS = 500;

interface Figures {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly bytes: number;
}

async function inBrowser(file: string): Promise<Figures> {
  await using open = await openPage();
  const { page, browser } = open;
  const root = browser.process()!.pid!;
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const before = treeUse(root);
  await chooseFiles(page, [file]);
  let bytes = 0;
  let last = before;
  const sampler = setInterval(() => {
    last = treeUse(root);
    bytes = Math.max(bytes, last.bytes - before.bytes);
  }, SAMPLE_MS);
  const options = { verify: false, report: false, ...(values.simple ? SIMPLE : {}) };
  const started = performance.now();
  await page.evaluate(
    async (options, save) => {
      const { quantsmith, chosen } = globalThis as unknown as {
        quantsmith: typeof import("../web/convert.ts");
        chosen: File[];
      };
      const root = await navigator.storage.getDirectory();
      const saveTo = save
        ? await root.getFileHandle("saved.safetensors", { create: true })
        : undefined;
      await quantsmith.convert(chosen, { ...options, saveTo });
    },
    options,
    values.save,
  );
  const seconds = (performance.now() - started) / 1000;
  clearInterval(sampler);
  return { seconds, cpuSeconds: treeUse(root).cpuSeconds - before.cpuSeconds, bytes };
}

const SIMPLE = { method: "simple", scaling: "row", convrot: "off", device: "cpu" } as const;
const SIMPLE_FLAGS = ["--simple", "--scaling_mode", "row"];

async function byProgram(file: string): Promise<Figures> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-bench-web-"));
  try {
    const main = fileURLToPath(new URL("../main.ts", import.meta.url));
    const flags = ["--no-progress", "--verbose", "MINIMAL", ...(values.simple ? SIMPLE_FLAGS : [])];
    const args = ["run", "-A", main, file, path.join(folder, "out.safetensors"), ...flags];
    const started = performance.now();
    const child = spawn(process.execPath, args, { stdio: "inherit" });
    let bytes = 0, cpuSeconds = 0;
    const sampler = setInterval(() => {
      const now = treeUse(child.pid!);
      bytes = Math.max(bytes, now.bytes);
      cpuSeconds = Math.max(cpuSeconds, now.cpuSeconds);
    }, SAMPLE_MS);
    const code = await new Promise((resolve) => child.on("close", resolve));
    clearInterval(sampler);
    if (code !== 0) throw new Error(`The program ended with ${code}`);
    return { seconds: (performance.now() - started) / 1000, cpuSeconds, bytes };
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function show(what: string, { seconds, cpuSeconds, bytes }: Figures): void {
  console.log(
    `${what}: ${seconds.toFixed(1)} s, ${cpuSeconds.toFixed(1)} s of processors, ` +
      `${(bytes / 1e6).toFixed(0)} MB`,
  );
}

for (let round = 0; round < Number(values.rounds); round++) {
  show("program", await byProgram(model));
  show("browser", await inBrowser(model));
}
