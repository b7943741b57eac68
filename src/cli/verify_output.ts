/** `--verify`: checks a file that was just written, against the loader's rules and its source. */

import { type Problem, verifyModel } from "../verify/verify.ts";
import { BIAS_DIFFERS, verifyAgainstSource } from "../verify/verify_source.ts";
import { WorkerPool } from "../run/workers/worker_pool.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { openModel } from "../safetensors/reader.ts";
import type { CommandContext } from "./context.ts";

/** Result of the check. */
export interface OutputCheck {
  readonly loads: boolean;
  readonly matches: boolean;
  readonly problems: readonly Problem[];
  /** For people. */
  readonly lines: readonly string[];
}

/**
 * Reads `output` and its `source` again, every byte, and compares them.
 *
 * @param options `correctedBiases` are known to differ from the source's; `source`: null if the output is
 * not meant to be like it, because LoRAs were merged or it was smoothed.
 */
export async function verifyOutput(
  output: string,
  { source, correctedBiases, context, workers }: {
    source: ModelSource | null;
    correctedBiases: ReadonlySet<string>;
    context: CommandContext;
    workers: number;
  },
): Promise<OutputCheck> {
  using pool = new WorkerPool(context.workerUrl, workers);
  const stored = openModel(output);
  const { signal } = context;
  const report = await verifyModel(stored, pool, { signal });
  const compared = source === null
    ? { matches: true, problems: [] }
    : await verifyAgainstSource(stored, source, { pool, signal });
  const problems = [
    ...report.problems,
    ...compared.problems.filter(({ rule, layer }) =>
      rule !== BIAS_DIFFERS || !correctedBiases.has(layer)
    ),
  ];
  const verdict = report.loads ? "loads in stock ComfyUI" : "does NOT load in stock ComfyUI";
  const match = source === null
    ? "not compared with its source, which was changed before (LoRAs, SmoothQuant)"
    : compared.matches
    ? "everything that was kept is equal to the source"
    : "it differs from its source beyond rounding";
  return {
    loads: report.loads,
    matches: compared.matches,
    problems,
    lines: [
      `verified: ${verdict}; ${match}`,
      ...problems.map(({ layer, rule, effect }) => `  ${layer}: ${rule}: ${effect}`),
    ],
  };
}
