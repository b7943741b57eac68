/** `quantsmith presets list|show|detect`: the families, and which one a file is. */

import { UsageError } from "../../core/errors.ts";
import { detect } from "../../presets/detect.ts";
import { DOCUMENTED_NAMES, documentedPreset } from "../../presets/documented.ts";
import { explain } from "../../presets/explain.ts";
import { familyById, listFamilies } from "../../presets/registry.ts";
import type { CommandContext } from "../context.ts";
import { nearestOr } from "../../core/nearest.ts";
import { verbosityOf } from "../files.ts";
import { createLog } from "../log.ts";
import { openFor } from "../open_input.ts";
import type { Parsed } from "../parse.ts";

const ACTIONS = ["list", "show", "detect"];

/** Runs the subcommand; returns the exit code. */
export async function presetsCommand(
  parsed: Parsed,
  context: CommandContext,
): Promise<number> {
  const [action = "list", operand, ...more] = parsed.positionals;
  if (!ACTIONS.includes(action)) {
    throw new UsageError(
      `Unknown action "${action}" of \`quantsmith presets\`: ${
        nearestOr(`there are ${ACTIONS.join(", ")}`, action, ACTIONS)
      }`,
    );
  }
  if (more.length > 0) throw new UsageError(`Cannot take so many names: ${more.join(" ")}`);
  if (action === "list") return list(parsed, context);
  if (operand === undefined) {
    throw new UsageError(
      `Missing ${action === "show" ? "NAME" : "FILE"}: quantsmith presets ${action} ...`,
    );
  }
  return action === "show"
    ? show(operand, parsed, context)
    : await detectFile(operand, parsed, context);
}

function list(parsed: Parsed, context: CommandContext): number {
  const families = listFamilies();
  if (parsed.bool("json")) {
    const rows = families.map(({ id, title }) => ({ id, title }));
    context.stdout(JSON.stringify({ families: rows, documented: DOCUMENTED_NAMES }));
    return 0;
  }
  const width = Math.max(...families.map(({ id }) => id.length));
  context.stdout("Families, detected from the header (--preset NAME forces one):");
  for (const { id, title, refuse } of families) {
    context.stdout(`  ${id.padEnd(width)}  ${title}${refuse === undefined ? "" : "  (refused)"}`);
  }
  context.stdout("");
  context.stdout("Documented presets (flags):");
  context.stdout(`  ${DOCUMENTED_NAMES.map((name) => `--${name}`).join(" ")}`);
  return 0;
}

function show(name: string, parsed: Parsed, context: CommandContext): number {
  const isDocumented = name.startsWith("--") ||
    (DOCUMENTED_NAMES as readonly string[]).includes(name) &&
      !listFamilies().some(({ id }) => id === name);
  const preset: object = isDocumented
    ? documentedPreset(name.replace(/^--/, ""))
    : familyById(name);
  if (parsed.bool("json")) {
    context.stdout(JSON.stringify(presetJson(preset)));
    return 0;
  }
  for (const [key, value] of Object.entries(preset)) {
    if (Array.isArray(value)) context.stdout(`${key}:\n  ${value.join("\n  ")}`);
    else context.stdout(`${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`);
  }
  return 0;
}

/** A preset with its keys in snake case, as all JSON of the program has them. */
function presetJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(presetJson);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      // The keys of a shape are names of tensors.
      key === "shape" || key === "notShape" ? inner : presetJson(inner),
    ]),
  );
}

async function detectFile(
  path: string,
  parsed: Parsed,
  context: CommandContext,
): Promise<number> {
  const log = createLog(verbosityOf(parsed), context);
  using input = await openFor(path, { context, log });
  const detection = detect(input.model.tensors);
  const { family, prefix, layout, evidence } = detection;
  if (parsed.bool("json")) {
    context.stdout(JSON.stringify({ family, prefix, layout, evidence }));
    return 0;
  }
  context.stdout(explain(detection));
  for (const name of evidence) context.stdout(`  by ${name}`);
  return 0;
}
