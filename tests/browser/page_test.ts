import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ElementHandle, Page } from "puppeteer-core";
import { findBrowser, openPage } from "../support/browser.ts";
import { hashByProgram } from "../support/browser_runs.ts";
import { temporaryFolder } from "../support/model_files.ts";
import { writeSyntheticModel } from "../support/synthetic_model.ts";
import { fluxLikeTensors, loraLike, MODEL_SIZES } from "../support/synthetic_shapes.ts";

const hasBrowser = findBrowser("chromium") !== null;
if (!hasBrowser) console.warn("ignored: tests of the page in Chromium, as there is none");

const folder = temporaryFolder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const at = (name: string) => join(folder.path, name);
const MODEL = at("flux.safetensors"),
  LORA = at("lora.safetensors"),
  LARGE = at("large.safetensors");
const tensors = fluxLikeTensors(MODEL_SIZES.tiny);
writeSyntheticModel(MODEL, tensors, { seed: 1 });
writeSyntheticModel(LORA, loraLike(tensors, 4), { seed: 2 });
writeSyntheticModel(LARGE, fluxLikeTensors(MODEL_SIZES.demo), { seed: 3 });

function browserTest(name: string, body: () => Promise<void>): void {
  Deno.test({ name, ignore: !hasBrowser, fn: body });
}

async function put(page: Page, id: string, paths: readonly string[]): Promise<void> {
  const input = await page.$(`#${id}`) as ElementHandle<HTMLInputElement>;
  await input.uploadFile(...paths);
}

async function textOf(page: Page, id: string): Promise<string> {
  return await page.$eval(`#${id}`, (element) => element.textContent ?? "");
}

/** Waits until one of the elements is shown; returns its id. */
async function shown(page: Page, ...ids: readonly string[]): Promise<string> {
  const handle = await page.waitForFunction(
    (ids: readonly string[]) => ids.find((id) => !document.getElementById(id)!.hidden) ?? null,
    { timeout: 120_000 },
    ids,
  );
  return await handle.jsonValue() as string;
}

/** Lets the page save to a file of its own, as a person would pick one. */
async function pretendPicker(page: Page): Promise<void> {
  await page.evaluate(() => {
    Object.assign(globalThis, {
      showSaveFilePicker: async ({ suggestedName }: { suggestedName: string }) => {
        const root = await navigator.storage.getDirectory();
        return await root.getFileHandle(suggestedName, { create: true });
      },
    });
  });
}

browserTest(
  "the page shows the model and the plan, converts, and shows verdict, report and next step",
  async () => {
    await using open = await openPage();
    const { page, url } = open;
    const requests: string[] = [], problems: string[] = [];
    page.on("request", (request) => requests.push(request.url()));
    page.on("console", (message) => problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(String(error)));
    await put(page, "choose", [MODEL]);
    await shown(page, "options");
    assert.match(await textOf(page, "facts"), /FLUX/);
    assert.match(await textOf(page, "plan"), /quantized.*stay as they are/);
    assert.match(await textOf(page, "plan"), /about [\d.]+ % of the weights/);
    await page.click("#convert");
    assert.equal(await shown(page, "result", "failure"), "result");
    assert.match(await textOf(page, "verdict"), /Checked: it loads in stock ComfyUI/);
    assert.match(await textOf(page, "next"), /models\/diffusion_models/);
    const frame = (await (await page.$("#report"))!.contentFrame())!;
    await frame.waitForSelector("canvas", { timeout: 20_000 });
    const hash = await page.$eval("#downloads a", async (link) => {
      const blob = await new Promise<Blob>((resolve) => {
        const request = new XMLHttpRequest();
        request.responseType = "blob";
        request.onload = () => resolve(request.response);
        request.onerror = () => resolve(new Blob());
        request.open("GET", (link as HTMLAnchorElement).href);
        request.send();
      });
      return [blob.size, (link as HTMLAnchorElement).download] as const;
    });
    // The policy forbids even that: what is left is the name.
    assert.equal(hash[0], 0);
    assert.match(hash[1], /^flux_int8_row_convrot\d+_mse\.safetensors$/);
    assert.deepEqual(
      requests.filter((each) => !each.startsWith(url) && !/^(blob|data|about):/.test(each)),
      [],
    );
    assert.deepEqual(problems.filter((text) => !/connect-src|Refused to connect/.test(text)), []);
  },
);

browserTest(
  "the page saves the bytes of the program to a picked file, with a LoRA merged",
  async () => {
    await using open = await openPage();
    const { page } = open;
    await pretendPicker(page);
    await put(page, "choose", [MODEL]);
    await shown(page, "options");
    await put(page, "loras", [LORA]);
    await page.waitForFunction(() => /LoRA: /.test(document.getElementById("notes")!.textContent!));
    await page.click("#save");
    assert.equal(await shown(page, "result", "failure"), "result");
    const [name, hash] = await page.evaluate(async () => {
      const root = await navigator.storage.getDirectory();
      const name = document.querySelector("#outcome dd")!.textContent!;
      const file = await (await root.getFileHandle(name)).getFile();
      const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
      return [
        name,
        [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
      ] as const;
    });
    assert.match(name, /^flux_lora_int8/);
    assert.equal(hash, await hashByProgram(MODEL, at("out.safetensors"), ["--merge-lora", LORA]));
    assert.equal(
      createHash("sha256").update(readFileSync(at("out.safetensors"))).digest("hex"),
      hash,
    );
  },
);

browserTest(
  "the page isolates itself by its service worker on a host that sets no headers",
  async () => {
    await using open = await openPage({ isIsolated: false });
    const { page } = open;
    assert.equal(await page.evaluate("crossOriginIsolated"), false);
    await page.goto(open.url, { waitUntil: "load" });
    await page.waitForFunction(
      "globalThis.crossOriginIsolated && globalThis.quantsmith !== undefined",
    );
    assert.equal(await page.$eval("#threads", (element) => (element as HTMLElement).hidden), true);
    await put(page, "choose", [MODEL]);
    await shown(page, "options");
    await page.click("#convert");
    assert.equal(await shown(page, "result", "failure"), "result");
  },
);

browserTest("the page and its threads may connect to nothing", async () => {
  await using open = await openPage();
  const { page, url } = open;
  const refused = await page.evaluate(() =>
    fetch(location.href).then(() => "sent", () => "refused")
  );
  assert.equal(refused, "refused");
  for (const name of ["engine.js", "worker.js", "disk.js", "reader.js"]) {
    const response = await fetch(url + name);
    const policy = response.headers.get("Content-Security-Policy");
    assert.match(policy ?? "", /connect-src 'none'/, name);
    await response.body?.cancel();
  }
});

browserTest("the page says what is wrong with a file, and goes on with the next", async () => {
  await using open = await openPage();
  const { page } = open;
  const gguf = at("model.gguf");
  writeFileSync(gguf, new Uint8Array([...new TextEncoder().encode("GGUF"), ...new Uint8Array(60)]));
  await put(page, "choose", [gguf]);
  await shown(page, "model-error");
  assert.match(await textOf(page, "model-error"), /GGUF/);
  await put(page, "choose", [LORA]);
  await shown(page, "plan-error");
  assert.match(await textOf(page, "plan-error"), /it is a LoRA.*"Files to add"/);
  assert.equal(
    await page.$eval("#convert", (button) => (button as HTMLButtonElement).disabled),
    true,
  );
  await put(page, "choose", [MODEL]);
  await page.waitForFunction(() =>
    !(document.getElementById("convert") as HTMLButtonElement).disabled
  );
  assert.equal(await page.$eval("#plan-error", (element) => (element as HTMLElement).hidden), true);
});

browserTest("the page offers formats and shows the plan of each", async () => {
  await using open = await openPage();
  const { page } = open;
  await put(page, "choose", [MODEL]);
  await shown(page, "options");
  const ids = await page.$$eval("#formats input", (all) => all.map(({ id }) => id));
  assert.deepEqual(
    ids,
    ["int8", "w6a8", "w4a8", "nvfp4", "fp8", "fp16"].map((id) => `format-${id}`),
  );
  for (const id of ids.toReversed()) {
    await page.click(`label[for="${id}"]`);
    const name = `flux_${id.replace("format-", "")}`;
    await page.waitForFunction(
      (name: string) => document.querySelector("#plan dd")!.textContent!.startsWith(name),
      { timeout: 60_000 },
      name,
    );
    assert.equal(await page.$eval("#plan-error", (error) => (error as HTMLElement).hidden), true);
  }
});

browserTest("the page converts once if its button is clicked twice", async () => {
  await using open = await openPage();
  const { page } = open;
  await put(page, "choose", [MODEL]);
  await shown(page, "options");
  await page.click("#convert");
  assert.equal(await shown(page, "result", "failure"), "result");
  // From now on there is a result to be removed first.
  const engines = await page.evaluate(async () => {
    const Started = Worker;
    let engines = 0;
    globalThis.Worker = class extends Started {
      constructor(url: string | URL, options?: WorkerOptions) {
        super(url, options);
        if (String(url).endsWith("engine.js")) engines++;
      }
    };
    const button = document.getElementById("convert")!;
    for (const type of ["click", "click"]) button.dispatchEvent(new MouseEvent(type));
    const work = document.getElementById("work")!;
    while (work.hidden) await new Promise((resolve) => setTimeout(resolve, 5));
    while (!work.hidden) await new Promise((resolve) => setTimeout(resolve, 5));
    return engines;
  });
  assert.equal(engines, 1);
});

browserTest("the page cancels, keeps nothing, and lets a person start again", async () => {
  await using open = await openPage();
  const { page } = open;
  await put(page, "choose", [LARGE]);
  await shown(page, "options");
  await page.click("#convert");
  await page.waitForFunction(() =>
    (document.getElementById("bar") as HTMLProgressElement).value > 0
  );
  await page.click("#cancel");
  assert.equal(await shown(page, "result", "failure"), "failure");
  assert.match(await textOf(page, "failure"), /nothing was kept/);
  await put(page, "choose", [MODEL]);
  await page.waitForFunction(() =>
    /^File.*flux/.test(document.getElementById("facts")!.textContent!)
  );
  await page.click("#convert");
  assert.equal(await shown(page, "result"), "result");
});

browserTest(
  "the page warns before it is closed, and the next one removes what a closed one left",
  async () => {
    await using open = await openPage();
    const { page, browser, url } = open;
    const left = (page: Page) =>
      page.evaluate(async () => {
        const root = await navigator.storage.getDirectory();
        const folder = await root.getDirectoryHandle("quantsmith", { create: true });
        const names: string[] = [];
        const keys = (folder as unknown as { keys(): AsyncIterable<string> }).keys();
        for await (const name of keys) names.push(name);
        return names;
      });
    await put(page, "choose", [LARGE]);
    await shown(page, "options");
    await page.click("#convert");
    await page.waitForFunction(() =>
      (document.getElementById("bar") as HTMLProgressElement).value > 0
    );
    assert.equal((await left(page)).length, 1);
    const warned = new Promise<string>((resolve) => {
      page.on("dialog", (dialog) => {
        resolve(dialog.type());
        void dialog.accept();
      });
    });
    const closed = new Promise((resolve) => page.once("close", resolve));
    await page.close({ runBeforeUnload: true });
    assert.equal(await warned, "beforeunload");
    await closed;
    const other = await browser.newPage();
    await other.goto(url);
    const [before] = await left(other);
    assert.notEqual(before, undefined);
    await put(other, "choose", [MODEL]);
    await shown(other, "options");
    await other.click("#convert");
    assert.equal(await shown(other, "result", "failure"), "result");
    const after = await left(other);
    assert.equal(after.length, 1);
    assert.notEqual(after[0], before);
  },
);

browserTest("the page says what a browser lacks", async () => {
  await using open = await openPage();
  const { browser, url } = open;
  const lacks: readonly [script: string, message: RegExp][] = [
    ["WebAssembly.validate = () => false", /WebAssembly with SIMD.*npx quantsmith/],
    ["delete StorageManager.prototype.getDirectory", /no storage for large files/],
  ];
  for (const [script, message] of lacks) {
    const page = await browser.newPage();
    await page.evaluateOnNewDocument(script);
    await page.goto(url);
    await shown(page, "support");
    assert.match(await textOf(page, "support"), message);
    assert.equal(
      await page.$eval("#choose", (input) => (input as HTMLInputElement).disabled),
      true,
    );
    await page.close();
  }
});

browserTest(
  "every control of the page has a name, and a phone shows it without sideways scrolling",
  async () => {
    await using open = await openPage();
    const { page } = open;
    await page.setViewport({ width: 400, height: 800 });
    await put(page, "choose", [MODEL]);
    await shown(page, "options");
    await page.$eval("details", (details) => (details as HTMLDetailsElement).open = true);
    const nameless: string[] = [];
    const walk = (node: { role: string; name?: string; children?: unknown[] } | null): void => {
      if (node === null) return;
      const isControl = ["button", "checkbox", "combobox", "link", "radio", "spinbutton", "textbox"]
        .includes(node.role);
      if (isControl && !node.name) nameless.push(JSON.stringify(node));
      for (const child of node.children ?? []) walk(child as typeof node);
    };
    walk(await page.accessibility.snapshot());
    assert.deepEqual(nameless, []);
    const unlabelled = await page.$$eval(
      "input, select",
      (all) =>
        all.filter((each) => (each as HTMLInputElement).labels?.length !== 1).map(({ id }) => id),
    );
    assert.deepEqual(unlabelled, []);
    assert.ok(await page.evaluate("document.documentElement.scrollWidth") as number <= 400);
    // By keyboard alone: the form is sent by Enter.
    await pretendPicker(page);
    await page.focus("#save");
    await page.keyboard.press("Enter");
    assert.equal(await shown(page, "result", "failure"), "result");
    assert.equal(await page.evaluate("document.activeElement.id"), "result");
    assert.ok(await page.evaluate("document.documentElement.scrollWidth") as number <= 400);
  },
);
