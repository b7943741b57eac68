/** Idle flags of files, checks, and how a run is carried out. */

import type { IdleFacts, IdleRule } from "./idle_rule.ts";

/** Flags that matter only if a file is written. */
const WRITING_FLAGS = [
  "verify",
  "report",
  "report-layers",
  "report-quality",
  "quality-threshold",
  "workers",
  "memory-limit",
  "low-memory",
] as const;

const NOTHING_DONE = "with --dry-run, which converts nothing";

export function dryRunRules({ io, options }: IdleFacts): IdleRule[] {
  return [
    { when: io.dryRun !== null, names: WRITING_FLAGS, why: NOTHING_DONE },
    { when: io.dryRun !== null && options.merge === null, names: ["strict"], why: NOTHING_DONE },
    {
      when: io.dryRun === "analyze" || io.dryRun === "full",
      names: ["output", "force", "resume"],
      why: "with --dry-run analyze, which writes nothing",
    },
  ];
}

export function checkRules({ io, options, quantizes }: IdleFacts): IdleRule[] {
  const isPage = /\.html?$/i.test(io.reportPath ?? "");
  return [
    {
      when: !isPage,
      names: ["report-layers"],
      why: "without --report FILE.html, which shows them",
    },
    {
      when: !io.reportQuality && !io.json && !io.strict && !isPage,
      names: ["quality-threshold"],
      why: "without --report-quality or --strict",
    },
    {
      when: !quantizes && options.merge === null,
      names: ["strict"],
      why: "with --fp16, which quantizes nothing",
    },
    { when: io.lowMemory, names: ["workers"], why: "with --low-memory, which takes one" },
    {
      when: true, // an edit does not come here
      names: ["edit-quant", "remove-keys", "add-keys", "quant-filter"],
      why: "without --edit-quant: this is a conversion",
    },
  ];
}
