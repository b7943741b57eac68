/**
 * Compiles the AssemblyScript kernels to WebAssembly and writes them as base64 text, which every
 * runtime and bundler can import (`with { type: "text" }`) if `.wasm` imports fail in some.
 *
 *     deno task build:asm            rebuild and write
 *     deno task build:asm --check    rebuild in memory; exit 1 if a committed file differs
 *
 * The result depends on the pinned compiler and the sources only, so the two can be compared.
 */

import { Buffer } from "node:buffer";
import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** A build: the entry file, where the base64 of its module goes (paths from the root), and further options. */
const TARGETS: readonly { entry: string; out: string; more?: readonly string[] }[] = [
  { entry: "asm/index.ts", out: "src/backend/cpu/kernels.wasm.b64" },
  { entry: "asm/linalg/index.ts", out: "src/backend/cpu/linalg.wasm.b64" },
  {
    entry: "asm/linalg/feed_back_relaxed.ts",
    out: "src/backend/cpu/feed_back_relaxed.wasm.b64",
    more: ["--enable", "relaxed-simd"],
  },
];

/** 4 GiB, all that 32-bit addresses reach. A memory given to the module may be smaller, not larger. */
const MAXIMUM_PAGES = 65536;

const OPTIONS = [
  ["--runtime", "stub"],
  ["--optimizeLevel", "3"],
  ["--shrinkLevel", "0"],
  "--converge",
  "--noAssert",
  // Kernels cannot fail: they are handed valid views. Without this the module would import `abort`.
  ["--use", "abort="],
  ["--enable", "simd"],
  ["--enable", "threads"],
  "--importMemory",
  "--sharedMemory",
  ["--initialMemory", "1"],
  ["--maximumMemory", String(MAXIMUM_PAGES)],
].flat();

/** Returns the module compiled from `entry`. Throws with the compiler's messages if it fails. */
async function compile(entry: string, more: readonly string[]): Promise<Uint8Array> {
  let wasm: Uint8Array | undefined;
  let messages = "";
  const sink = {
    write(text: string | Uint8Array): void {
      messages += typeof text === "string" ? text : new TextDecoder().decode(text);
    },
  };
  const { error } = await asc.main([entry, "--outFile", "module.wasm", ...OPTIONS, ...more], {
    stdout: sink,
    stderr: sink,
    readFile(name: string): string | null {
      const file = path.join(ROOT, name);
      return fs.existsSync(file) ? fs.readFileSync(file, "utf8") : null;
    },
    writeFile(name: string, contents: string | Uint8Array): void {
      if (name === "module.wasm" && typeof contents !== "string") wasm = contents;
    },
    listFiles: () => [],
  });
  if (error !== null) throw new Error(`Cannot compile "${entry}": ${messages || error.message}`);
  if (messages !== "") console.error(messages);
  if (wasm === undefined) {
    throw new Error(`Cannot compile "${entry}": the compiler wrote no module`);
  }
  return wasm;
}

/**
 * Throws if the module could not share a memory with others: kernel modules own no part of the
 * memory they import, so they may hold no data segments (lookup tables, strings) and import nothing else.
 */
function requireShareable(entry: string, wasm: Uint8Array<ArrayBuffer>): void {
  const imports = WebAssembly.Module.imports(new WebAssembly.Module(wasm));
  const extra = imports.filter((item) => !(item.module === "env" && item.name === "memory"));
  if (extra.length > 0) {
    throw new Error(
      `Cannot use "${entry}": it imports ${JSON.stringify(extra)} besides its memory`,
    );
  }
  const DATA_SECTION = 11;
  for (let at = 8; at < wasm.length;) {
    const id = wasm[at++]!;
    let size = 0;
    for (let shift = 0;; shift += 7) {
      const byte = wasm[at++]!;
      size |= (byte & 127) << shift;
      if (byte < 128) break;
    }
    if (id === DATA_SECTION) {
      throw new Error(`Cannot use "${entry}": it has a data segment, which would overwrite memory`);
    }
    at += size;
  }
}

/** Returns base64 in lines of 120 characters, as git likes them. */
function toWrappedBase64(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString("base64");
  return (text.match(/.{1,120}/g) ?? []).join("\n") + "\n";
}

let stale = 0;
const check = process.argv.includes("--check");
for (const { entry, out, more = [] } of TARGETS) {
  if (!fs.existsSync(path.join(ROOT, entry))) continue;
  const wasm = new Uint8Array(await compile(entry, more));
  requireShareable(entry, wasm);
  const text = toWrappedBase64(wasm);
  const file = path.join(ROOT, out);
  if (!check) {
    fs.writeFileSync(file, text);
    console.log(`${out}: ${wasm.length} bytes from ${entry}`);
  } else if (!fs.existsSync(file) || fs.readFileSync(file, "utf8") !== text) {
    console.error(`${out} is not what ${entry} builds to: run "deno task build:asm" and commit it`);
    stale++;
  }
}
process.exitCode = stale > 0 ? 1 : 0;
