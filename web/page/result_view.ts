/** The part of the page during a conversion and after it. */

import { formatBytes, formatSeconds } from "../../src/cli/format.ts";
import type { ConvertEvent, Summary } from "../engine/protocol.ts";
import { byId, fillFacts, fillList, saveLink, say } from "./elements.ts";
import { inWords } from "./in_words.ts";
import { rateLine, spokenStep } from "./rate.ts";

const work = byId("work", HTMLElement);
const title = byId("work-title", HTMLHeadingElement);
const bar = byId("bar", HTMLProgressElement);
const rate = byId("rate", HTMLParagraphElement);
const layer = byId("layer", HTMLParagraphElement);
const result = byId("result", HTMLElement);
const verdict = byId("verdict", HTMLParagraphElement);
const outcome = byId("outcome", HTMLElement);
const downloads = byId("downloads", HTMLDivElement);
const next = byId("next", HTMLParagraphElement);
const problems = byId("problems", HTMLUListElement);
const report = byId("report", HTMLIFrameElement);
const failure = byId("failure", HTMLParagraphElement);
const live = byId("live", HTMLParagraphElement);

/** Shows a conversion while it runs. */
export class WorkView {
  readonly #started = performance.now();
  #said = 0;
  readonly #warnings: string[] = [];

  constructor() {
    work.hidden = false;
    result.hidden = true;
    say(failure, null);
    title.textContent = "Converting";
    bar.value = 0;
    rate.textContent = "Starting";
    layer.textContent = "";
    live.textContent = "The conversion has started.";
  }

  /** Warnings so far. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  take(event: ConvertEvent): void {
    switch (event.type) {
      case "warning":
        this.#warnings.push(event.message);
        break;
      case "progress": {
        const share = event.totalBytes === 0 ? 0 : event.doneBytes / event.totalBytes;
        bar.value = share;
        rate.textContent = rateLine(event, performance.now() - this.#started);
        layer.textContent = event.current;
        const step = spokenStep(share, this.#said);
        if (step !== null) {
          this.#said = step;
          live.textContent = `${step} percent. ${rate.textContent}`;
        }
        break;
      }
      case "verifying":
        title.textContent = "Checking the new file";
        bar.removeAttribute("value");
        rate.textContent = "It is read once more.";
        layer.textContent = "";
        live.textContent = "The new file is complete and is being checked.";
    }
  }

  end(): void {
    work.hidden = true;
  }
}

/** Shows the result of a conversion; `blob`: bytes that are not saved yet, null if a picked file has them. */
export function showResult(
  summary: Summary,
  { blob, warnings, onSave }: {
    blob: Blob | null;
    warnings: readonly string[];
    onSave: () => void;
  },
): void {
  result.hidden = false;
  const { verified, quality, output } = summary;
  const isGood = verified === null || (verified.loads && verified.matches);
  verdict.className = `message ${isGood ? "good" : "bad"}`;
  verdict.textContent = [
    ...(quality === null ? [] : [sentence(quality)]),
    verified === null
      ? "It was not checked."
      : verified.loads
      ? "Checked: it loads in stock ComfyUI."
      : "Checked: it does NOT load in stock ComfyUI.",
    ...(verified === null || verified.matches
      ? []
      : ["It differs from its source beyond rounding."]),
  ].join(" ");
  fillFacts(outcome, [
    ["New file", output],
    ["Size", `${formatBytes(summary.inputBytes)} → ${formatBytes(summary.outputBytes)}`],
    ["Time", `${formatSeconds(summary.elapsedMs)}`],
    ["Layers quantized", String(summary.layers)],
  ]);
  downloads.replaceChildren();
  if (blob !== null) {
    const link = saveLink("Save the new file", blob, output);
    link.classList.add("first");
    link.addEventListener("click", onSave);
    downloads.append(link);
  }
  const stem = output.replace(/\.safetensors$/, "");
  if (summary.reportHtml !== null) {
    const page = new Blob([summary.reportHtml], { type: "text/html" });
    downloads.append(saveLink("Save the report", page, `${stem}.html`));
    report.srcdoc = summary.reportHtml;
  }
  if (summary.report !== null) {
    const data = new Blob([JSON.stringify(summary.report, null, 2)], { type: "application/json" });
    downloads.append(saveLink("Save the report as data", data, `${stem}.json`));
  }
  next.textContent = `${
    sentence(summary.next)
  } Then restart ComfyUI or press R, so that it sees the file.`;
  fillList(problems, [
    ...(verified?.problems ?? []).map(({ layer, rule, effect }) => `${layer}: ${rule}: ${effect}`),
    ...warnings,
  ]);
  live.textContent = `Done. ${verdict.textContent}`;
  result.focus();
}

/** Shows why there is no result. */
export function showFailure(message: string): void {
  say(failure, inWords(message));
  failure.focus();
}

/** Says that it was cancelled. */
export function showCancelled(): void {
  live.textContent = "The conversion was cancelled. Nothing was kept.";
  say(failure, "Cancelled: nothing was kept.");
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
