/** The plan of a batch: the fate of each model, from headers alone, before any work. */

import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { AlreadyQuantizedError, UsageError } from "../core/errors.ts";
import { prepareFitted } from "../convert/fit/prepare_fitted.ts";
import type { Plan } from "../plan/plan.ts";
import { outputNames } from "../safetensors/shard_layout.ts";
import { autoOutputName, type NameFacts } from "./output_name.ts";
import type { AskedConversion } from "./request.ts";

/** One model of a batch. */
export type BatchItem =
  & {
    readonly input: string;
    /** LoRAs that are merged into it. */
    readonly loras: readonly string[];
  }
  & (
    | {
      readonly action: "convert";
      readonly output: string;
      readonly request: AskedConversion;
      readonly totals: Plan["totals"];
    }
    | { readonly action: "skip"; readonly reason: string }
    | { readonly action: "fail"; readonly error: Error }
  );

/** How {@link planBatch} names outputs and asks for conversions. */
export interface BatchPlanOptions {
  /** LoRAs of a model. */
  readonly lorasOf: (input: string) => readonly string[];
  /** The conversion that the command line asks for. */
  readonly requestOf: (input: string) => AskedConversion;
  /** Null: beside each model. */
  readonly outputDir: string | null;
  /** Returns what the name of an output says of a plan. */
  readonly nameFacts: (plan: Plan) => NameFacts;
}

/**
 * Returns what is done with each model. Skipped are models that are quantized already, whose output is
 * there, that are the output of another model of the batch, or a LoRA that is merged into one.
 *
 * @throws UsageError if two models would be written to one file, or a request is wrong in itself.
 */
export async function planBatch(
  inputs: readonly string[],
  options: BatchPlanOptions,
): Promise<BatchItem[]> {
  const items: BatchItem[] = [];
  for (const input of inputs) items.push(await planOne(input, options));
  const outputs = new Map<string, string>();
  for (const item of items) {
    if (item.action !== "convert") continue;
    const path = resolve(item.output);
    const other = outputs.get(path);
    if (other !== undefined) {
      throw new UsageError(
        `Cannot convert ${JSON.stringify(other)} and ${JSON.stringify(item.input)} in one batch: ` +
          `both would become ${JSON.stringify(item.output)}; convert them into two folders`,
      );
    }
    outputs.set(path, item.input);
  }
  const merged = new Set(items.flatMap(({ loras }) => loras.map((path) => resolve(path))));
  return items.map((item): BatchItem => {
    const { input, loras } = item;
    const skip = (reason: string): BatchItem => ({ input, loras, action: "skip", reason });
    const source = outputs.get(resolve(input));
    if (source !== undefined) return skip(`it is the output of ${JSON.stringify(source)}`);
    if (merged.has(resolve(input))) return skip("it is a LoRA that is merged into a model");
    if (item.action === "convert" && existsSync(item.output) && !item.request.io.force) {
      return skip(`its output ${JSON.stringify(item.output)} exists; \`--force\` replaces it`);
    }
    return item;
  });
}

async function planOne(
  input: string,
  { lorasOf, requestOf, outputDir, nameFacts }: BatchPlanOptions,
): Promise<BatchItem> {
  const loras = lorasOf(input);
  const request = requestOf(input);
  try {
    const { plan } = await prepareFitted(input, request.options);
    const name = autoOutputName(input, request.options, nameFacts(plan));
    const path = outputDir === null ? name : join(outputDir, basename(name));
    const output = outputNames(path, plan.parts.length).main;
    return { input, loras, action: "convert", output, request, totals: plan.totals };
  } catch (error) {
    if (error instanceof AlreadyQuantizedError) {
      return { input, loras, action: "skip", reason: "it is already quantized" };
    }
    // One bad model does not stop the others; it is reported with its message, and the batch exits 1.
    if (error instanceof Error) return { input, loras, action: "fail", error };
    throw error;
  }
}
