/** The `--quip-...` flags. */

import { UsageError } from "../core/errors.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../plan/options.ts";
import type { Parsed } from "./parse.ts";

/** The documented defaults of `--quip-checkpoint-...`. */
const THRESHOLD = 8192, SEGMENTS = 4;

/** Returns what `--optimizer quip` is to store. */
export function quipOf(parsed: Parsed): ConvertOptions["quip"] {
  const { quip } = DEFAULT_CONVERT_OPTIONS;
  const scheme = parsed.string("quip-requant-scheme") as typeof quip.requantScheme | null;
  return Object.freeze({
    storeTransformed: parsed.bool("quip-store-transformed"),
    requantScheme: scheme ?? quip.requantScheme,
    perRow: parsed.bool("quip-requant-tensor-per-row", quip.perRow),
    seed: parsed.number("quip-seed") ?? parsed.number("manual_seed") ?? quip.seed,
  });
}

/** Returns how the columns of large layers are cut; null: they are not. */
export function segmentsOf(parsed: Parsed): ConvertOptions["segments"] {
  if (!parsed.bool("quip-checkpointed")) return null;
  return Object.freeze({
    threshold: parsed.number("quip-checkpoint-threshold") ?? THRESHOLD,
    count: parsed.number("quip-checkpoint-segments") ?? SEGMENTS,
  });
}

/** @throws UsageError where `--quip-...` flags contradict one another. */
export function refuseQuipContradictions(parsed: Parsed): void {
  const isQuip = parsed.string("optimizer") === "quip";
  if (!isQuip || !parsed.bool("quip-store-transformed")) return;
  if (!parsed.bool("quip-hadamard", true)) {
    throw new UsageError(
      "Cannot use --no-quip-hadamard with --quip-store-transformed: the stored layout is that of a " +
        "Hadamard transform",
    );
  }
}
