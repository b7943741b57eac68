/** The part of the page about the model and the plan. */

import { formatBytes, formatPercent } from "../../src/cli/format.ts";
import { GRADES } from "../../src/cli/verdict.ts";
import type { Look, PlanFacts } from "../engine/protocol.ts";
import { byId, fillFacts, fillList, say } from "./elements.ts";
import { inWords } from "./in_words.ts";

const model = byId("model", HTMLDivElement);
const facts = byId("facts", HTMLElement);
const modelError = byId("model-error", HTMLParagraphElement);
const plan = byId("plan", HTMLElement);
const planError = byId("plan-error", HTMLParagraphElement);
const notes = byId("notes", HTMLUListElement);

/** Most notes of a plan that are shown. */
const MOST_NOTES = 8;

/** Shows the model. */
export function showModel(name: string, look: Look): void {
  say(modelError, null);
  model.hidden = false;
  const quantized = Object.entries(look.quantized).map(([format, count]) => `${count} ${format}`);
  fillFacts(facts, [
    ["File", name],
    ["Model", look.explanation],
    ["Size", `${formatBytes(look.fileBytes)}, ${count(look.parameters)} parameters`],
    ["Tensors", `${look.tensors} (${dtypes(look)})`],
    ["Quantized layers", quantized.length === 0 ? null : quantized.join(", ")],
  ]);
}

/** Shows why there is no model. */
export function showNoModel(message: string | null): void {
  model.hidden = true;
  say(modelError, message);
}

/** Shows the plan, or why there is none. */
export function showPlan(look: Look): void {
  say(planError, look.refusal === null ? null : inWords(look.refusal));
  plan.hidden = look.plan === null;
  fillList(notes, look.plan === null ? [] : notesOf(look.plan));
  if (look.plan === null) return;
  const { inputBytes, outputBytes, quantize, keep, cast, expectedError, method, outputName } =
    look.plan;
  const share = Math.round(100 * outputBytes / inputBytes);
  fillFacts(plan, [
    ["New file", outputName],
    ["Size", `${formatBytes(inputBytes)} → ${formatBytes(outputBytes)} (${share} %)`],
    [
      "Graphics memory",
      `about ${formatBytes(outputBytes)} for the weights, and more for the image`,
    ],
    [
      "Expected error",
      expectedError === null
        ? "measured when it is done"
        : `about ${formatPercent(expectedError)} of the weights (${gradeOf(expectedError)})`,
    ],
    [
      "Layers",
      `${quantize} quantized, ${keep} stay as they are` + (cast > 0 ? `, ${cast} cast` : ""),
    ],
    ["Method", method.replace(/^method: /, "")],
  ]);
}

function notesOf({ loras, notes }: PlanFacts): string[] {
  const all = [...loras.map((line) => `LoRA: ${line}`), ...notes];
  const more = all.length - MOST_NOTES;
  return more <= 0 ? all : [...all.slice(0, MOST_NOTES), `and ${more} more, in the report`];
}

function gradeOf(error: number): string {
  return GRADES.weights.find(([, most]) => error <= most)?.[0] ?? "poor";
}

function dtypes({ dtypes }: Look): string {
  return Object.entries(dtypes).map(([dtype, number]) => `${number} ${dtype}`).join(", ");
}

function count(parameters: number): string {
  if (parameters >= 1e9) return `${(parameters / 1e9).toFixed(1)} billion`;
  if (parameters >= 1e6) return `${(parameters / 1e6).toFixed(0)} million`;
  return String(parameters);
}
