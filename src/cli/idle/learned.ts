/** Idle flags of learned rounding. */

import { isLearnedOptimizer } from "../../quant/learned/options.ts";
import { LEARNED_FLAGS, SCHEDULE_FLAGS } from "../learned_flags.ts";
import type { IdleFacts, IdleRule } from "./idle_rule.ts";

export function learnedRules({ options: { method, learned }, isMixed }: IdleFacts): IdleRule[] {
  const isLearned = isLearnedOptimizer(method);
  return [
    {
      when: !isLearned && !isMixed,
      names: LEARNED_FLAGS,
      why: "without --optimizer original, adamw or radam",
    },
    {
      when: isLearned && !isMixed,
      names: ["gptq-actorder", "gptq-turbo"],
      why: `with --optimizer ${method}`,
    },
    ...Object.entries(SCHEDULE_FLAGS).map(([kind, names]): IdleRule => ({
      when: kind !== learned.schedule.kind,
      names,
      why: `with the ${learned.schedule.kind} schedule: --lr_schedule ${kind} has it`,
    })),
  ];
}
