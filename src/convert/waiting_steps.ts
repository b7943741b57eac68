/** Steps of a conversion that few conversions take: their code is loaded when it is needed. */

import { later } from "../core/later.ts";

/** How the code of each step is loaded. */
export interface WaitingSteps {
  readonly fitFormats: () => Promise<typeof import("./fit/fit_formats.ts")>;
  readonly fitCodebooks: () => Promise<typeof import("./fit/fit_codebooks.ts")>;
  readonly smoothing: () => Promise<typeof import("./smoothing.ts")>;
}

let steps: WaitingSteps = {
  fitFormats: () => import(later("./fit/fit_formats.ts")),
  fitCodebooks: () => import(later("./fit/fit_codebooks.ts")),
  smoothing: () => import(later("./smoothing.ts")),
};

/** The steps of this program. */
export function waitingSteps(): WaitingSteps {
  return steps;
}

/** Says how code is loaded from now on: the library names it by literals, for those who bundle it. */
export function loadStepsBy(own: WaitingSteps): void {
  steps = own;
}
