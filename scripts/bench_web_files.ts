/**
 * How fast headless Chromium itself reads a chosen file and writes a new one, without any work on the bytes:
 * the least that a conversion in a page can take. Linux only.
 *
 *     deno run -A --config deno.dev.json scripts/bench_web_files.ts FILE [--rounds 1] [--ways NAME,NAME]
 *
 * Reads FILE once in every way that browsers have, and writes half as many bytes. Prints wall time, processor
 * time of all processes of the browser, and MB/s.
 */

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import puppeteer from "puppeteer-core";
import { servePage } from "../src/cli/ui/page_server.ts";
import { chooseFiles, findBrowser } from "../tests/support/browser.ts";
import { treeUse } from "./support/process_tree.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "1" },
    ways: { type: "string" },
  },
});
const [file] = positionals;
if (file === undefined || positionals.length > 1) {
  console.error("Usage: bench_web_files.ts FILE [--rounds N] [--ways NAME,NAME]");
  process.exit(2);
}

/** Ways to move bytes, by name: bodies of `(blob, size) => Promise` in a worker. */
const WAYS = {
  "read: a stream": `
    const reader = blob.stream().getReader({ mode: "byob" });
    let view = new Uint8Array(1 << 20);
    for (;;) {
      const { done, value } = await reader.read(view);
      if (done) break;
      view = new Uint8Array(value.buffer);
    }`,
  "read: two streams, half each": `
    const half = async (part) => {
      const reader = part.stream().getReader({ mode: "byob" });
      let view = new Uint8Array(1 << 20);
      for (;;) {
        const { done, value } = await reader.read(view);
        if (done) break;
        view = new Uint8Array(value.buffer);
      }
    };
    await Promise.all([half(blob.slice(0, size / 2)), half(blob.slice(size / 2))]);`,
  "read: streams of 8 MiB, four at a time, as a conversion does": `
    let at = 0;
    const next = async () => {
      let view = new Uint8Array(1 << 20);
      while (at < size) {
        const from = at;
        at += 8 << 20;
        const reader = blob.slice(from, from + (8 << 20)).stream().getReader({ mode: "byob" });
        for (;;) {
          const { done, value } = await reader.read(view);
          if (value !== undefined) view = new Uint8Array(value.buffer);
          if (done) break;
        }
      }
    };
    await Promise.all([next(), next(), next(), next()]);`,
  "read: slices of 2 MiB, one after the other, FileReaderSync": `
    const reader = new FileReaderSync();
    for (let at = 0; at < size; at += 2 << 20) reader.readAsArrayBuffer(blob.slice(at, at + (2 << 20)));`,
  "read: slices of 32 MiB, arrayBuffer()": `
    for (let at = 0; at < size; at += 32 << 20) await blob.slice(at, at + (32 << 20)).arrayBuffer();`,
  "read: slices of 8 MiB, four at a time, arrayBuffer()": `
    let at = 0;
    const next = async () => {
      while (at < size) {
        const from = at;
        at += 8 << 20;
        await blob.slice(from, from + (8 << 20)).arrayBuffer();
      }
    };
    await Promise.all([next(), next(), next(), next()]);`,
  "write: a sync access handle, 1 MiB at a time": `
    const bytes = new Uint8Array(1 << 20).fill(1);
    const root = await navigator.storage.getDirectory();
    const entry = await root.getFileHandle("written", { create: true });
    const handle = await entry.createSyncAccessHandle();
    for (let at = 0; at < size / 2; at += bytes.length) handle.write(bytes, { at });
    handle.flush();
    handle.close();
    await root.removeEntry("written");`,
  "write: a stream as for a picked file, 16 MiB at a time, two at once": `
    const root = await navigator.storage.getDirectory();
    const entry = await root.getFileHandle("written", { create: true });
    const stream = await entry.createWritable();
    const blocks = [1, 2].map((value) => new Uint8Array(16 << 20).fill(value));
    const writes = [];
    for (let at = 0; at < size / 2; at += 16 << 20) {
      if (writes.length === blocks.length) await writes.shift();
      const data = blocks[at / (16 << 20) % 2];
      writes.push(stream.write({ type: "write", position: at, data }));
    }
    await Promise.all(writes);
    await stream.close();
    await root.removeEntry("written");`,
} as const;

const worker = `const ways = {${
  Object.entries(WAYS).map(([name, body]) =>
    `${JSON.stringify(name)}: async (blob, size) => {${body}}`
  ).join(",\n")
}};
onmessage = async ({ data: { name, blob } }) => {
  await ways[name](blob, blob.size);
  postMessage(null);
};
postMessage(null);`;

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-bench-web-files-"));
fs.writeFileSync(path.join(folder, "index.html"), "<!doctype html>");
fs.writeFileSync(path.join(folder, "worker.js"), worker);
const server = await servePage(folder, { port: 0 });

/** Moves the bytes in one way, in a browser of its own. */
async function measure(name: string): Promise<string> {
  const browser = await puppeteer.launch({
    executablePath: findBrowser("chromium")!,
    // As in the tests.
    args: ["--no-sandbox"],
    protocolTimeout: 1_800_000,
  });
  try {
    const page = await browser.newPage();
    await page.goto(server.url);
    await chooseFiles(page, [file!]);
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const root = browser.process()!.pid!;
    const before = treeUse(root).cpuSeconds;
    const seconds = await page.evaluate(async (name) => {
      const { chosen } = globalThis as unknown as { chosen: File[] };
      const worker = new Worker("worker.js");
      const said = () => new Promise((resolve) => worker.onmessage = resolve);
      await said();
      const started = performance.now();
      worker.postMessage({ name, blob: chosen[0] });
      await said();
      return (performance.now() - started) / 1000;
    }, name);
    const megabytes = fs.statSync(file!).size / (name.startsWith("write") ? 2e6 : 1e6);
    return `${seconds.toFixed(1)} s, ${(treeUse(root).cpuSeconds - before).toFixed(1)} s of ` +
      `processors, ${(megabytes / seconds).toFixed(0)} MB/s`;
  } finally {
    await browser.close();
  }
}

try {
  const asked = values.ways?.split(",");
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const name of Object.keys(WAYS)) {
      if (asked !== undefined && !asked.some((part) => name.includes(part))) continue;
      console.log(`${name}: ${await measure(name)}`);
    }
  }
} finally {
  await server.close();
  fs.rmSync(folder, { recursive: true, force: true });
}
