/** The functions between the layers of an MLP, one value at a time, as torch has them. Pure. */

import type { Activation } from "../../presets/encoders/encoder_graph.ts";

/** Each activation by its name. */
export const ACTIVATIONS: Readonly<Record<Activation, (x: number) => number>> = Object.freeze({
  silu: (x) => x / (1 + Math.exp(-x)),
  geluTanh: (x) => 0.5 * x * (1 + Math.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3))),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  quickGelu: (x) => x / (1 + Math.exp(-1.702 * x)),
  relu: (x) => Math.max(0, x),
});

/** Abramowitz and Stegun 7.1.26, |error| < 1.5e-7. */
function erf(x: number): number {
  const z = Math.abs(x), t = 1 / (1 + 0.3275911 * z);
  const polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 +
                t * 1.061405429))));
  return Math.sign(x) * (1 - polynomial * Math.exp(-z * z));
}
