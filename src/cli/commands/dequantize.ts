/** `quantsmith dequantize SRC [DST]`: a quantized model as plain floats. */

import { basename, dirname, join } from "node:path";
import { type DequantizeDType, dequantizeModel } from "../../convert/dequantize.ts";
import { RUN_DEFAULTS } from "../../plan/options.ts";
import { WorkerPool } from "../../run/workers/worker_pool.ts";
import { localNameOf } from "../../remote/location.ts";
import { checkOutput } from "../../safetensors/leftovers.ts";
import type { CommandContext } from "../context.ts";
import { formatBytes, formatSeconds } from "../format.ts";
import { createLog } from "../log.ts";
import { filesOf, verbosityOf } from "../files.ts";
import { openFor } from "../open_input.ts";
import type { Parsed } from "../parse.ts";
import { poolSize } from "../pool_size.ts";
import { createProgress } from "../progress.ts";

/** Runs the subcommand; returns the exit code. */
export async function dequantizeCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const files = filesOf(parsed);
  const dtype = (parsed.string("output-dtype") ?? RUN_DEFAULTS.outputDtype) as DequantizeDType;
  const output = files.output ?? outputName(localNameOf(files.input), dtype);
  const force = parsed.bool("force");
  const json = parsed.bool("json");
  const log = createLog(verbosityOf(parsed), context);
  await checkOutput(output, { force });
  using opened = await openFor(files.input, { context, log, output });
  const { model } = opened;
  const sourcePath = parsed.string("source");
  using source = sourcePath === null ? null : await openFor(sourcePath, { context, log });
  using pool = new WorkerPool(context.workerUrl, poolSize(parsed, [model]));
  const progress = createProgress({
    enabled: parsed.bool("progress", true) && !json && verbosityOf(parsed) !== "MINIMAL",
    context,
  });
  try {
    const result = await dequantizeModel(model, {
      output,
      dtype,
      force,
      shapesOf: source?.model,
      pool,
      signal: context.signal,
      onProgress: (now) => progress.update(now),
    });
    progress.stop();
    if (json) {
      context.stdout(JSON.stringify({
        output: result.output,
        dtype: result.dtype,
        restored: result.restored,
        copied: result.copied,
        dropped: result.dropped,
        output_bytes: result.outputBytes,
        elapsed_ms: Math.round(result.elapsedMs),
      }));
    }
    log.info(
      `${result.restored} weights restored as ${dtype}, ${result.copied} tensors copied, ` +
        `${result.dropped} markers and scales dropped`,
    );
    log.info(
      `done: ${output}, ${formatBytes(result.outputBytes)} in ${formatSeconds(result.elapsedMs)}`,
    );
    return 0;
  } finally {
    progress.stop();
  }
}

/** `model_int8.safetensors` -> `model_int8_dequantized_bf16.safetensors`, beside the input. */
function outputName(input: string, dtype: DequantizeDType): string {
  const stem = basename(input).replace(/\.safetensors(\.index\.json)?$/, "");
  return join(dirname(input), `${stem}_dequantized_${dtype.toLowerCase()}.safetensors`);
}
