/** `quantsmith inspect FILE`: what is in a model, from its header. */

import { inspectionJson, inspectModel } from "../../convert/inspect.ts";
import { TensorReader } from "../../safetensors/reader.ts";
import type { CommandContext } from "../context.ts";
import { inspectionLines } from "../inspect_report.ts";
import { filesOf, verbosityOf } from "../files.ts";
import { createLog } from "../log.ts";
import { openFor } from "../open_input.ts";
import type { Parsed } from "../parse.ts";

/** Runs the subcommand; returns the exit code. */
export async function inspectCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const log = createLog(verbosityOf(parsed), context);
  using input = await openFor(filesOf(parsed).input, { context, log });
  const { model } = input;
  using reader = new TensorReader(model);
  const inspection = inspectModel(model, (tensor) => reader.read(tensor));
  if (parsed.bool("json")) context.stdout(JSON.stringify(inspectionJson(inspection)));
  else for (const line of inspectionLines(inspection)) context.stdout(line);
  return 0;
}
