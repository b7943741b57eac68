/** The form of the page: choices as options. */

import type { BrowserConvertOptions, LookOptions } from "../convert.ts";
import { type Choice, FORMATS, METHODS, methodsFor } from "./choices.ts";
import { byId, chosenOf, fillChoices } from "./elements.ts";

const formats = byId("formats", HTMLDivElement);
const methods = byId("methods", HTMLDivElement);
const loras = byId("loras", HTMLInputElement);
const loraScale = byId("lora-scale", HTMLInputElement);
const calibration = byId("calibration", HTMLInputElement);
const tier = byId("tier", HTMLSelectElement);
const exclude = byId("exclude", HTMLInputElement);
const workers = byId("workers", HTMLInputElement);
const verify = byId("verify", HTMLInputElement);
const requantize = byId("requantize", HTMLInputElement);
const keepNonfinite = byId("keep-nonfinite", HTMLInputElement);

/** Fills the choices. Call once. */
export function prepareForm(): void {
  fillChoices(formats, "format", FORMATS, null);
  fillMethods();
  formats.addEventListener("change", fillMethods);
  const most = navigator.hardwareConcurrency ?? 1;
  workers.value = String(globalThis.crossOriginIsolated ? Math.min(8, most) : 1);
  workers.disabled = !globalThis.crossOriginIsolated;
}

/** Returns the options of the conversion. */
export function chosenOptions(): LookOptions {
  return {
    ...optionsOf(FORMATS, chosenOf(formats)),
    ...optionsOf(METHODS, chosenOf(methods)),
    tier: tier.value as "minimal" | "balanced" | "conservative",
    ...(exclude.value.trim() === "" ? {} : { excludeLayers: exclude.value.trim() }),
    ...(requantize.checked ? { requantize: true } : {}),
    ...(keepNonfinite.checked ? { nonfinite: "keep" } : {}),
    ...(loras.files!.length === 0
      ? {}
      : { loras: [...loras.files!], loraScale: loraScale.valueAsNumber }),
    ...(calibration.files!.length === 0 ? {} : { calibration: calibration.files![0]! }),
  };
}

/** Returns the options of the run. */
export function chosenRun(): Pick<BrowserConvertOptions, "workers" | "verify" | "device"> {
  const device = new URLSearchParams(location.search).get("device");
  return {
    verify: verify.checked,
    ...(workers.disabled || Number.isNaN(workers.valueAsNumber)
      ? {}
      : { workers: Math.max(1, Math.floor(workers.valueAsNumber)) }),
    ...(device === "gpu" || device === "cpu" ? { device } : {}),
  };
}

function fillMethods(): void {
  const fitting = methodsFor(chosenOf(formats) ?? "int8");
  fillChoices(methods, "method", fitting, chosenOf(methods));
  methods.closest("fieldset")!.hidden = fitting.length < 2;
}

function optionsOf(choices: readonly Choice[], id: string | null): LookOptions {
  return choices.find((choice) => choice.id === id)?.options ?? {};
}
