/**
 * The parts of the command line that all commands share: files and verbosity. Apart from
 * `options.ts`, so that commands that plan nothing start without what planning needs.
 */

import { UsageError } from "../core/errors.ts";
import { RUN_DEFAULTS } from "../plan/options.ts";
import type { CommandName } from "./flags/flag.ts";
import type { Verbosity } from "./log.ts";
import type { Parsed } from "./parse.ts";

/** Commands that write a model. */
const WRITING: readonly CommandName[] = ["convert", "dequantize", "calibrate", "edit", "migrate"];

/** Endings of the names of files that a command writes. */
function endingsOf(parsed: Parsed): readonly string[] {
  if (parsed.command === "calibrate") return [".json", ".safetensors"];
  if (parsed.string("dry-run") === "create-template") return [".json"];
  return [".safetensors"];
}

/** @throws UsageError for an output that other programs would not take for what it is. */
function checkEnding(parsed: Parsed, output: string): void {
  const endings = endingsOf(parsed);
  // Shards may be named by their index.
  const name = parsed.has("shard-size") ? output.replace(/\.index\.json$/, "") : output;
  if (endings.some((ending) => name.toLowerCase().endsWith(ending))) return;
  throw new UsageError(
    `Cannot write ${JSON.stringify(output)}: its name must end with ${endings.join(" or ")}`,
  );
}

/**
 * Returns how much is said on stderr, by default `NORMAL`; `--quiet` is `MINIMAL`.
 *
 * @throws UsageError if both flags are given.
 */
export function verbosityOf(parsed: Parsed): Verbosity {
  if (parsed.bool("quiet")) {
    if (parsed.has("verbose")) throw new UsageError("Cannot use --quiet with --verbose: drop one");
    return "MINIMAL";
  }
  return (parsed.string("verbose") ?? RUN_DEFAULTS.verbosity) as Verbosity;
}

/** Returns the files of a command that reads one and writes one: `SRC [DST]`, or `-i SRC -o DST`. */
export function filesOf(parsed: Parsed): { input: string; output: string | null } {
  const [source, destination] = parsed.positionals;
  const input = parsed.string("input");
  if (input !== null && source !== undefined) {
    throw new UsageError(
      `Cannot use --input ${JSON.stringify(input)} with ${
        JSON.stringify(source)
      }: name the model once`,
    );
  }
  const output = WRITING.includes(parsed.command) ? parsed.string("output") : null;
  if (output !== null && destination !== undefined) {
    throw new UsageError(
      `Cannot use --output ${JSON.stringify(output)} with ${
        JSON.stringify(destination)
      }: name the output once`,
    );
  }
  const model = input ?? source;
  if (model === undefined) {
    const command = parsed.command === "convert" ? "" : ` ${parsed.command}`;
    throw new UsageError(
      `Missing model: \`quantsmith${command} model.safetensors\`; see --help`,
    );
  }
  const written = output ?? destination ?? null;
  if (written !== null) checkEnding(parsed, written);
  return { input: model, output: written };
}
