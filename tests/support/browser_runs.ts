/** Conversions in a page, and the same by the program for comparison. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Page } from "puppeteer-core";
import { chooseFiles } from "./browser.ts";
import { runCli } from "./run_cli.ts";

/** A conversion in a page; files are given by their paths. */
export interface PageRun {
  /** Paths of the model: one file, or shards and their index. */
  readonly model: readonly string[];
  readonly loras?: readonly string[];
  readonly calibration?: string;
  /** Options of `quantsmith.convert` that can be sent. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Save to a file as if it had been picked. */
  readonly save?: boolean;
}

/** The result of a conversion in a page. */
export interface PageResult {
  /** SHA-256 of the output; null if it failed. */
  readonly hash: string | null;
  readonly bytes: number;
  /** Types of the events, without repetition, in order. */
  readonly events: readonly string[];
  readonly warnings: readonly string[];
  readonly output: string | null;
  readonly loads: boolean | null;
  /** Message and name of the error; null if there is none. */
  readonly error: string | null;
  readonly errorName: string | null;
  /** Paths of everything that is in the browser's storage afterwards. */
  readonly left: readonly string[];
}

/** Converts in `page`. */
export async function convertInPage(page: Page, run: PageRun): Promise<PageResult> {
  const { model, loras = [], calibration, options = {}, save = false } = run;
  await chooseFiles(page, [
    ...model,
    ...loras,
    ...(calibration === undefined ? [] : [calibration]),
  ]);
  return await page.evaluate(convertChosen, {
    models: model.length,
    loras: loras.length,
    hasData: calibration !== undefined,
    options,
    save,
  });
}

/** Runs in the page, with the files of `globalThis.chosen`. */
async function convertChosen(
  { models, loras, hasData, options, save }: {
    models: number;
    loras: number;
    hasData: boolean;
    options: Readonly<Record<string, unknown>>;
    save: boolean;
  },
): Promise<PageResult> {
  const { quantsmith, chosen } = globalThis as unknown as {
    quantsmith: typeof import("../../web/convert.ts");
    chosen: File[];
  };
  const root = await navigator.storage.getDirectory();
  const saveTo = save ? await root.getFileHandle("saved.safetensors", { create: true }) : undefined;
  const events: string[] = [], warnings: string[] = [];
  let output: string | null = null, loads: boolean | null = null;
  let hash: string | null = null, bytes = 0;
  let error: string | null = null, errorName: string | null = null;
  const left = async (folder: FileSystemDirectoryHandle, path = ""): Promise<string[]> => {
    const found: string[] = [];
    const entries = (folder as unknown as {
      entries(): AsyncIterable<[string, FileSystemDirectoryHandle]>;
    }).entries();
    for await (const [name, entry] of entries) {
      if (entry.kind === "directory") found.push(...await left(entry, `${path}${name}/`));
      else found.push(path + name);
    }
    return found;
  };
  try {
    const result = await quantsmith.convert(chosen.slice(0, models), {
      ...options,
      ...(loras === 0 ? {} : { loras: chosen.slice(models, models + loras) }),
      ...(hasData ? { calibration: chosen.at(-1)! } : {}),
      saveTo,
      onEvent: (event) => {
        if (event.type !== events.at(-1)) events.push(event.type);
        if (event.type === "warning") warnings.push(event.message);
        if (event.type === "start") output = event.output;
        if (event.type === "done") loads = event.summary.verified?.loads ?? null;
      },
    });
    const blob = result instanceof Blob ? result : await result.getFile();
    const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
    hash = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    bytes = blob.size;
    if (result instanceof Blob) await quantsmith.release(result);
    else await root.removeEntry("saved.safetensors");
  } catch (caught) {
    error = (caught as Error).message;
    errorName = (caught as Error).name;
  }
  return {
    hash,
    bytes,
    events,
    warnings,
    output,
    loads,
    error,
    errorName,
    left: await left(root),
  };
}

/** Returns the SHA-256 of what the program writes with these arguments. */
export async function hashByProgram(
  input: string,
  output: string,
  flags: readonly string[],
): Promise<string> {
  const { code, stderr } = await runCli([input, output, "--device", "cpu", ...flags]);
  assert.equal(code, 0, stderr);
  return createHash("sha256").update(readFileSync(output)).digest("hex");
}
