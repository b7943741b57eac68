/** A conversion as a command runs it: what is asked for, and what came of it. */

import type { ConvertResult } from "../../convert/convert.ts";
import type { ConvertOptions } from "../../plan/options.ts";
import type { PoolKeeper } from "../../run/workers/pool_keeper.ts";
import type { Log } from "../log.ts";
import type { ConvertIo } from "../options.ts";
import type { GpuKeeper } from "../device.ts";
import type { CommandContext } from "../context.ts";

/** Parameters that all parts of the command share. */
export interface ConversionRequest {
  readonly options: ConvertOptions;
  readonly io: ConvertIo;
  /** Of flags that change nothing if no GPU is taken. */
  readonly warningsOnCpu: readonly string[];
  readonly context: CommandContext;
  readonly log: Log;
  /** Keeps the workers for the next conversion of a batch. */
  readonly pools?: PoolKeeper;
  /** Keeps the GPU, as well. */
  readonly gpus?: GpuKeeper;
}

/** Result of a conversion. */
export interface ConversionOutcome {
  /** The exit code: 1 if the output was written and a check that was asked for failed. */
  readonly code: 0 | 1;
  readonly result: ConvertResult;
}
