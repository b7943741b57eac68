/** The page: choose a model, see the plan, convert, read the result. */

import { VERSION } from "../../src/core/version.ts";
import { convert, look, release } from "../convert.ts";
import * as quantsmith from "../convert.ts";
import type { Look, Summary } from "../engine/protocol.ts";
import { byId, say } from "./elements.ts";
import { chosenOptions, chosenRun, prepareForm } from "./form.ts";
import { isolate } from "./isolate.ts";
import { showModel, showNoModel, showPlan } from "./model_view.ts";
import { showCancelled, showFailure, showResult, WorkView } from "./result_view.ts";
import { canPick, missing, slower } from "./support.ts";

const choose = byId("choose", HTMLInputElement);
const drop = byId("drop", HTMLDivElement);
const form = byId("options", HTMLFormElement);
const save = byId("save", HTMLButtonElement);
const start = byId("convert", HTMLButtonElement);
const cancel = byId("cancel", HTMLButtonElement);

/** Time for more choices before the plan is made again. */
const SETTLE_MS = 150;

let files: readonly File[] = [];
let seen: Look | null = null;
let abort: AbortController | null = null;
/** The conversion that is not saved yet. */
let unsaved: Blob | null = null;
let asked = 0;

if (await isolate()) begin();

function begin(): void {
  Object.assign(globalThis, { quantsmith });
  byId("version", HTMLSpanElement).textContent = VERSION;
  const lacking = missing();
  say(byId("support", HTMLParagraphElement), lacking);
  say(byId("threads", HTMLParagraphElement), lacking === null ? slower() : null);
  if (lacking !== null) {
    choose.disabled = true;
    return;
  }
  prepareForm();
  save.hidden = !canPick();
  start.className = canPick() ? "" : "first";
  byId("storage", HTMLParagraphElement).textContent = canPick()
    ? "“Convert” keeps the new file in the browser's own storage until you save it, which needs its size twice. " +
      "Disks and memory sticks with FAT32 hold no file over 4 GB."
    : "The new file is kept in the browser's own storage until you save it, so its size is needed twice. " +
      "Disks and memory sticks with FAT32 hold no file over 4 GB.";
  choose.addEventListener("change", () => void take([...choose.files ?? []]));
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    void take([...event.dataTransfer?.files ?? []]);
  });
  let timer: ReturnType<typeof setTimeout> | undefined;
  form.addEventListener("change", () => {
    clearTimeout(timer);
    timer = setTimeout(() => void plan(), SETTLE_MS);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (canPick()) void saveAs();
    else void run(undefined);
  });
  start.addEventListener("click", () => void run(undefined));
  cancel.addEventListener("click", () => abort?.abort());
  globalThis.addEventListener("beforeunload", (event) => {
    if (abort !== null || unsaved !== null) event.preventDefault();
  });
}

/** Takes files for the model. */
async function take(chosen: readonly File[]): Promise<void> {
  if (chosen.length === 0 || abort !== null) return;
  files = chosen;
  await plan();
}

/** Looks at the model and its plan. */
async function plan(): Promise<void> {
  if (files.length === 0) return;
  const turn = ++asked;
  let found: Look;
  try {
    found = await look(files, chosenOptions());
  } catch (error) {
    if (turn !== asked) return;
    seen = null;
    form.hidden = true;
    showNoModel((error as Error).message);
    return;
  }
  if (turn !== asked) return; // something else was chosen meanwhile
  seen = found;
  showModel(files.map(({ name }) => name).join(", "), found);
  showPlan(found);
  form.hidden = false;
  for (const button of [save, start]) button.disabled = found.plan === null;
}

/** Lets a person pick a place, then converts to it. Browsers ask for a click just before, so nothing is awaited. */
async function saveAs(): Promise<void> {
  const { showSaveFilePicker } = globalThis as unknown as {
    showSaveFilePicker(options: object): Promise<FileSystemFileHandle>;
  };
  let handle: FileSystemFileHandle;
  try {
    handle = await showSaveFilePicker({
      id: "quantsmith",
      suggestedName: seen?.plan?.outputName ?? "model_int8.safetensors",
      types: [{
        description: "Model",
        accept: { "application/octet-stream": [".safetensors"] },
      }],
    });
  } catch (error) {
    if ((error as Error).name === "AbortError") return;
    showFailure(`Cannot pick a place: ${(error as Error).message}`);
    return;
  }
  await run(handle);
}

async function run(saveTo: FileSystemFileHandle | undefined): Promise<void> {
  if (abort !== null || seen?.plan == null) return;
  // Before anything is awaited: a second click must find it.
  abort = new AbortController();
  const view = new WorkView();
  const controls = form.querySelectorAll<HTMLInputElement>("input, select, button");
  const enabled = [...controls, choose].filter(({ disabled }) => !disabled);
  for (const control of enabled) control.disabled = true;
  cancel.focus();
  let summary: Summary | null = null;
  try {
    await forget();
    const made = await convert(files, {
      ...chosenOptions(),
      ...chosenRun(),
      saveTo,
      signal: abort.signal,
      onEvent: (event) => {
        view.take(event);
        if (event.type === "done") summary = event.summary;
      },
    });
    const blob = made instanceof Blob ? made : null;
    unsaved = blob;
    showResult(summary!, {
      blob,
      warnings: view.warnings,
      onSave: () => unsaved = null,
    });
    last = blob;
  } catch (error) {
    if ((error as Error).name === "AbortError") showCancelled();
    else showFailure((error as Error).message);
  } finally {
    abort = null;
    view.end();
    for (const control of enabled) control.disabled = false;
  }
}

/** The last result; its bytes are in the browser's storage. */
let last: Blob | null = null;

/** Gives back the storage of the last result. */
async function forget(): Promise<void> {
  unsaved = null;
  if (last !== null) await release(last);
  last = null;
}
