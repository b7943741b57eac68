import assert from "node:assert/strict";
import {
  closeSync,
  copyFileSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, join } from "node:path";
import type { Page } from "puppeteer-core";
import { chooseFiles, findBrowser, openPage } from "../support/browser.ts";
import { convertInPage, hashByProgram, type PageRun } from "../support/browser_runs.ts";
import { writeCalibration, writeSmallModel } from "../support/method_model.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";
import { writeSyntheticModel } from "../support/synthetic_model.ts";
import { fluxLikeTensors, loraLike, MODEL_SIZES } from "../support/synthetic_shapes.ts";

const hasBrowser = findBrowser("chromium") !== null;
if (!hasBrowser) console.warn("ignored: tests of the page in Chromium, as there is none");

const folder = temporaryFolder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const at = (name: string) => join(folder.path, name);

const MODEL = at("model.safetensors"), DATA = at("data.safetensors");
const FLUX = at("flux.safetensors"), LORA = at("lora.safetensors");
const SHARDED = at("sharded.safetensors");
writeSmallModel(MODEL);
writeCalibration(DATA);
const tensors = fluxLikeTensors(MODEL_SIZES.tiny);
writeSyntheticModel(FLUX, tensors, { seed: 1 });
writeSyntheticModel(LORA, loraLike(tensors, 4), { seed: 2 });

/** One way through the program, and the flags that ask for the same there. */
interface Way extends PageRun {
  readonly name: string;
  readonly flags: readonly string[];
  readonly program?: string;
}

const PLAIN = { method: "simple", scaling: "row" } as const;
const WAYS: readonly Way[] = [
  {
    name: "plain rows",
    model: [MODEL],
    options: PLAIN,
    flags: ["--simple", "--scaling_mode", "row"],
  },
  { name: "the default", model: [FLUX], flags: [] },
  {
    name: "GPTQ with data",
    model: [MODEL],
    calibration: DATA,
    options: { seed: 1 },
    flags: ["--calibration-data", DATA, "--manual_seed", "1"],
  },
  { name: "a merged LoRA", model: [FLUX], loras: [LORA], flags: ["--merge-lora", LORA] },
];

/** What conversions left in their folders in the storage of the browser. */
async function leftInStorage(page: Page): Promise<string[]> {
  return await page.evaluate(async () => {
    const left: string[] = [];
    const root = await navigator.storage.getDirectory();
    for await (
      const folder of (root as unknown as { values(): AsyncIterable<unknown> }).values()
    ) {
      if (!(folder instanceof FileSystemDirectoryHandle)) continue;
      for await (
        const name of (folder as unknown as { keys(): AsyncIterable<string> }).keys()
      ) left.push(name);
    }
    return left;
  });
}

function browserTest(name: string, body: () => Promise<void>): void {
  Deno.test({ name, ignore: !hasBrowser, fn: body });
}

for (const save of [false, true]) {
  const where = save ? "a picked file" : "the browser's storage";
  browserTest(`convert() writes the bytes of the program to ${where}`, async () => {
    await using open = await openPage();
    for (const { name, flags, ...run } of WAYS) {
      const expected = await hashByProgram(run.model[0]!, at("out.safetensors"), [
        ...flags,
        "--force",
      ]);
      const result = await convertInPage(open.page, { ...run, save });
      assert.equal(result.error, null, name);
      assert.equal(result.hash, expected, name);
      assert.equal(result.loads, true, name);
      assert.deepEqual(result.left, [], name);
      assert.equal(result.events.at(-1), "done", name);
    }
  });
}

browserTest("convert() takes shards with their index, in any order", async () => {
  const index = at("sharded.safetensors.index.json");
  const { code, stderr } = await runCli([MODEL, SHARDED, "--fp16", "--shard-size", "200kB"]);
  assert.equal(code, 0, stderr);
  const shards = [...Deno.readDirSync(folder.path)].map(({ name }) => name)
    .filter((name) => /^sharded-\d+-of-/.test(name)).sort().reverse();
  assert.ok(shards.length > 1);
  const expected = await hashByProgram(index, at("from_shards.safetensors"), []);
  await using open = await openPage();
  const result = await convertInPage(open.page, { model: [...shards.map(at), index] });
  assert.equal(result.error, null);
  assert.equal(result.hash, expected);
  const missing = await convertInPage(open.page, { model: [at(shards[0]!), index] });
  assert.match(missing.error!, /files that it names are missing/);
  const unnamed = await convertInPage(open.page, { model: shards.map(at) });
  assert.match(unnamed.error!, /together with their \.safetensors\.index\.json/);
});

browserTest(
  "convert() does all the work in one thread, and says so, if memory cannot be shared",
  async () => {
    await using open = await openPage({ isIsolated: false });
    assert.equal(await open.page.evaluate("crossOriginIsolated"), false);
    for (const { name, flags, ...run } of WAYS) {
      const expected = await hashByProgram(run.model[0]!, at("out.safetensors"), [
        ...flags,
        "--force",
      ]);
      const result = await convertInPage(open.page, run);
      assert.equal(result.error, null, name);
      assert.equal(result.hash, expected, name);
      assert.match(result.warnings.join(), /one thread/, name);
    }
    const saved = await convertInPage(open.page, { model: [FLUX], save: true });
    assert.equal(saved.hash, await hashByProgram(FLUX, at("saved.safetensors"), []));
  },
);

browserTest("convert() leaves nothing and throws AbortError if it is cancelled", async () => {
  const large = at("large.safetensors");
  writeSyntheticModel(large, fluxLikeTensors(MODEL_SIZES.demo), { seed: 3 });
  for (const isIsolated of [true, false]) {
    await using open = await openPage({ isIsolated });
    await chooseFiles(open.page, [large]);
    for (const save of [false, true]) {
      const [name, left] = await open.page.evaluate(async (save) => {
        const { quantsmith, chosen } = globalThis as unknown as {
          quantsmith: typeof import("../../web/convert.ts");
          chosen: File[];
        };
        const root = await navigator.storage.getDirectory();
        const saveTo = save
          ? await root.getFileHandle("saved.safetensors", { create: true })
          : undefined;
        const abort = new AbortController();
        const thrown = await quantsmith.convert(chosen, {
          saveTo,
          signal: abort.signal,
          onEvent: ({ type }) => {
            if (type === "layer") abort.abort();
          },
        }).then(() => "nothing", (error) => error.name);
        const left: string[] = [];
        for await (
          const name of (root as unknown as { keys(): AsyncIterable<string> }).keys()
        ) {
          if (name !== "quantsmith") left.push(name);
          else {
            const folder = await root.getDirectoryHandle(name);
            for await (
              const each of (folder as unknown as { keys(): AsyncIterable<string> }).keys()
            ) left.push(each);
          }
        }
        return [thrown, left] as const;
      }, save);
      assert.equal(name, "AbortError");
      assert.deepEqual(left, []);
    }
  }
});

browserTest("convert() says what a file is that is no model, and what to do", async () => {
  const wrong: readonly [string, string | Uint8Array, RegExp][] = [
    [
      "model.gguf",
      new Uint8Array([...new TextEncoder().encode("GGUF"), ...new Uint8Array(60)]),
      /GGUF/,
    ],
    ["model.ckpt", Uint8Array.of(0x80, 2, ...new Uint8Array(60)), /pickle/i],
    ["model.zip", Uint8Array.of(0x50, 0x4b, 3, 4, ...new Uint8Array(60)), /zip|PyTorch/i],
    ["empty.safetensors", new Uint8Array(0), /empty|0 bytes/],
    ["text.safetensors", "hello, this is no model at all", /safetensors/],
  ];
  await using open = await openPage();
  for (const [name, bytes, message] of wrong) {
    writeFileSync(at(name), bytes);
    const { error, errorName, left } = await convertInPage(open.page, { model: [at(name)] });
    assert.match(error ?? "", message, name);
    assert.match(error!, new RegExp(`"${basename(name)}"`));
    assert.notEqual(errorName, "TypeError");
    assert.deepEqual(left, []);
  }
  const lora = await convertInPage(open.page, { model: [LORA] });
  assert.match(lora.error!, /it is a LoRA/);
  const unknown = await convertInPage(open.page, { model: [MODEL], options: { metod: "gptq" } });
  assert.match(unknown.error!, /metod.*method/s);
  assert.equal(unknown.errorName, "UsageError");
});

browserTest(
  "convert() refuses a file that was changed or removed after it was chosen",
  async () => {
    await using open = await openPage();
    for (const change of ["truncate", "remove"] as const) {
      const name = at(`${change}.safetensors`);
      copyFileSync(FLUX, name);
      await chooseFiles(open.page, [name]);
      if (change === "truncate") truncateSync(name, 4096);
      else rmSync(name);
      const message = await open.page.evaluate(async () => {
        const { quantsmith, chosen } = globalThis as unknown as {
          quantsmith: typeof import("../../web/convert.ts");
          chosen: File[];
        };
        return await quantsmith.convert(chosen).then(() => "nothing", (error) => error.message);
      });
      assert.match(message, /changed, moved or removed|no such file/, change);
    }
  },
);

browserTest(
  "convert() stops if its input changes or disappears during the work, and leaves nothing",
  async () => {
    const changes: Record<string, (path: string) => void> = {
      "one byte": (path) => {
        const file = openSync(path, "r+");
        writeSync(file, Uint8Array.of(77), 0, 1, statSync(path).size - 1);
        closeSync(file);
      },
      "cut short": (path) => truncateSync(path, 4096),
      "removed": (path) => rmSync(path),
      "replaced": (path) => {
        copyFileSync(FLUX, `${path}.new`);
        renameSync(`${path}.new`, path);
      },
    };
    for (const isIsolated of [true, false]) {
      await using open = await openPage({ isIsolated });
      let change = (): void => {};
      await open.page.exposeFunction("changeInput", () => change());
      for (const [name, changed] of Object.entries(changes)) {
        const path = at("changing.safetensors");
        writeSyntheticModel(path, fluxLikeTensors(MODEL_SIZES.demo), { seed: 3 });
        await chooseFiles(open.page, [path]);
        change = () => changed(path);
        const message = await open.page.evaluate(async () => {
          const { quantsmith, chosen, changeInput } = globalThis as unknown as {
            quantsmith: typeof import("../../web/convert.ts");
            chosen: File[];
            changeInput: () => Promise<void>;
          };
          const message = await quantsmith.convert(chosen, {
            onEvent: ({ type }) => {
              if (type === "start") changeInput();
            },
          }).then(() => "nothing", (error) => error.message);
          return message;
        });
        assert.match(message, /changed, moved or removed|no such file/, name);
        assert.deepEqual(await leftInStorage(open.page), [], name);
      }
    }
  },
);

browserTest("convert() refuses wrong arguments before any work, and leaves nothing", async () => {
  await using open = await openPage();
  const wrong: readonly [options: Record<string, unknown>, message: RegExp][] = [
    [{ workers: 0 }, /Cannot use 0 for workers: 1 or more/],
    [{ workers: 1.5 }, /Cannot use 1.5 for workers/],
    [{ device: "tpu" }, /Cannot use "tpu" for device: one of auto, cpu, gpu/],
    [{ format: "int9" }, /Cannot use "int9" for format: one of int8, w6a8, /],
    [{ loras: "lora" }, /Cannot use loras: Files or Blobs/],
    [{ calibration: {} }, /Cannot use calibration: Files or Blobs/],
    [{ format: "int3" }, /"int3".*one of int8, w6a8/],
    [{ nonsense: 1 }, /Unknown option "nonsense"/],
  ];
  for (const [options, message] of wrong) {
    const { error, errorName, left } = await convertInPage(open.page, {
      model: [FLUX],
      options,
      save: true,
    });
    assert.equal(errorName, "UsageError");
    assert.match(error!, message);
    assert.deepEqual(left, []);
  }
  const noModel = await open.page.evaluate(async () => {
    const { quantsmith } = globalThis as unknown as {
      quantsmith: { convert(model: unknown): Promise<unknown> };
    };
    return await quantsmith.convert("model.safetensors").catch((error) => error.message);
  });
  assert.match(String(noModel), /Cannot use the model: Files or Blobs/);
});

browserTest(
  "convert() refuses an output that does not fit before any work, and one that fills the disk",
  async () => {
    await using open = await openPage();
    const session = await open.page.createCDPSession();
    const origin = new URL(open.url).origin;
    const model = at("model_of_2mb.safetensors");
    writeModel(model, [
      tensorOf("blocks.0.lin.weight", "F32", [1024, 512], new Float32Array(1024 * 512).fill(1)),
    ]);
    // The browser promises more than there is.
    await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 200_000 });
    const later = await convertInPage(open.page, { model: [model] });
    assert.match(later.error!, /the disk is full/);
    assert.deepEqual(later.left, []);
    await open.page.evaluate(() => {
      navigator.storage.estimate = () => Promise.resolve({ quota: 300_000, usage: 200_000 });
    });
    const before = await convertInPage(open.page, { model: [model] });
    assert.match(before.error!, /it needs \d+ bytes .*, the disk has 100000 free/);
    assert.deepEqual(before.events, []);
    assert.deepEqual(before.left, []);
  },
);

browserTest(
  "convert() ends with an error, and leaves nothing, if one of its threads fails",
  async () => {
    const model = at("model_of_threads.safetensors");
    writeSyntheticModel(model, fluxLikeTensors(MODEL_SIZES.demo), { seed: 3 });
    await using open = await openPage();
    await chooseFiles(open.page, [model]);
    for (const script of ["disk.js", "worker.js"]) {
      const message = await open.page.evaluate(async (script) => {
        const { quantsmith, chosen } = globalThis as unknown as {
          quantsmith: typeof import("../../web/convert.ts");
          chosen: File[];
        };
        const threads: Worker[] = [];
        const { Worker: Own } = globalThis;
        globalThis.Worker = class extends Own {
          constructor(url: string | URL, options?: WorkerOptions) {
            super(url, options);
            if (String(url).endsWith(script)) threads.push(this);
          }
        };
        const message = await quantsmith.convert(chosen, {
          device: "cpu",
          onEvent: ({ type }) => {
            if (type !== "layer") return;
            for (const thread of threads.splice(0)) {
              thread.dispatchEvent(new ErrorEvent("error", { message: "a thread broke" }));
            }
          },
        }).then(() => "nothing", (error) => error.message);
        globalThis.Worker = Own;
        return message;
      }, script);
      assert.match(message, /a thread broke/, script);
      assert.deepEqual(await leftInStorage(open.page), [], script);
    }
  },
);

/** A GPU that is software, so that every machine has one. */
const SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

browserTest(
  "convert() computes on any GPU that is asked for, to the same bytes, and on a real one by itself",
  async () => {
    await using open = await openPage({ args: SOFTWARE_GPU });
    const adapter = await open.page.evaluate(async () => {
      const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<object | null> } };
      return await gpu?.requestAdapter() !== null && gpu !== undefined;
    });
    if (!adapter) {
      console.warn("ignored: WebGPU in the page, as this Chromium has no software adapter");
      return;
    }
    const expected = await hashByProgram(MODEL, at("gpu.safetensors"), []);
    const asked = await convertInPage(open.page, { model: [MODEL], options: { device: "gpu" } });
    assert.equal(asked.error, null);
    assert.equal(asked.hash, expected);
    assert.match(asked.warnings.join(), /software/);
    const byItself = await convertInPage(open.page, { model: [MODEL] });
    assert.equal(byItself.hash, expected);
    assert.deepEqual(byItself.warnings, []);
  },
);
