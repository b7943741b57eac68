/** Idle flags of calibration data, GPTQ and SmoothQuant. */

import { isLearnedOptimizer } from "../../quant/learned/options.ts";
import type { IdleFacts, IdleRule } from "./idle_rule.ts";

export function calibrationRules({ options, quantizes, isMixed, hasData }: IdleFacts): IdleRule[] {
  const { method, calibrationPath, smoothAlpha, quip } = options;
  return [
    {
      when: true,
      names: ["gptq-fast"],
      why: "(accepted for compatibility)",
    },
    {
      when: calibrationPath === null || !quantizes,
      names: ["calibration-holdout", "bias-correction"],
      why: "without --calibration-data",
    },
    {
      when: (method === "simple" && !isMixed) || !quantizes,
      names: ["calibration-lora", "gptq-turbo"],
      why: "with plain round to nearest",
    },
    {
      when: !hasData,
      names: ["gptq-actorder", "gptq-turbo", "quip-actorder", "quip-checkpointed"],
      why: "without --calibration-data",
    },
    {
      when: true,
      names: ["calib_samples"],
      why: "here: rounding does not use synthetic inputs; `quantsmith calibrate` writes them",
    },
    { when: smoothAlpha === null, names: ["smoothquant-alpha"], why: "without --smoothquant" },
    {
      when: !(method === "quip" && quip.storeTransformed) && !isLearnedOptimizer(method) &&
        !isMixed,
      names: ["manual_seed"],
      why: "with methods that are not random",
    },
  ];
}
