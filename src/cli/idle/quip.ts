/** Idle flags of QuIP. */

import { flagsOfOption } from "../option_flags.ts";
import type { IdleFacts, IdleRule } from "./idle_rule.ts";

/** Flags that matter to `--optimizer quip` only. */
const QUIP_FLAGS = ["quip-actorder", "quip-hadamard", ...flagsOfOption("quip")];

const REQUANT_FLAGS = ["quip-requant-scheme", "quip-requant-tensor-per-row"] as const;
const SEGMENT_FLAGS = ["quip-checkpoint-threshold", "quip-checkpoint-segments"] as const;

export function quipRules({ options, mode, isMixed }: IdleFacts): IdleRule[] {
  const { quip, method, segments, convrot } = options;
  const isRotated = convrot !== null && convrot !== "off";
  return [
    { when: method !== "quip" && !isMixed, names: QUIP_FLAGS, why: "without --optimizer quip" },
    { when: method === "quip", names: ["gptq-actorder"], why: "with --optimizer quip" },
    {
      when: !quip.storeTransformed,
      names: ["quip-hadamard", "quip-seed"],
      why: "without --quip-store-transformed: no transform helps a grid in original space, and " +
        "--convrot has one of its own",
    },
    {
      when: quip.storeTransformed || options.scaling !== null || isRotated,
      names: REQUANT_FLAGS,
      why: `with ${mode.scaling} scaling, which another flag asks for`,
    },
    {
      when: quip.requantScheme === "block",
      names: ["quip-requant-tensor-per-row"],
      why: "with --quip-requant-scheme block",
    },
    {
      when: quip.perRow && quip.requantScheme === null,
      names: ["quip-requant-tensor-per-row"],
      why: "without --quip-requant-scheme: rows are what is stored",
    },
    { when: segments === null, names: SEGMENT_FLAGS, why: "without --quip-checkpointed" },
    {
      when: method === "quip" && quip.storeTransformed,
      names: ["quip-checkpointed", ...SEGMENT_FLAGS],
      why: "with --quip-store-transformed, which mixes all columns",
    },
  ];
}
