/** Opens the model that a command reads: a path, an URL, or a repository of the Hugging Face Hub. */

import { dirname } from "node:path";
import { later } from "../core/later.ts";
import type { OpenInput } from "../run/workers/remote_input.ts";
import { isRemote } from "../remote/location.ts";
import { openModel } from "../safetensors/reader.ts";
import type { CommandContext } from "./context.ts";
import type { Log } from "./log.ts";
import { readVariable } from "./terminal.ts";

/** Repeated requests that are reported; a bad line would fill the screen. */
const TOLD_RETRIES = 5;

/** The environment variables that matter to servers. Without permission to read it, nothing is set. */
const VARIABLES = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"] as const;

/** The purpose of an opened input. */
export interface OpenFor {
  readonly context: CommandContext;
  readonly log: Pick<Log, "warn" | "verbose">;
  /** Path of the output: downloads that must be kept lie beside it. */
  readonly output?: string | null;
  /** All of it will be read more than once. */
  readonly keep?: boolean;
}

/**
 * Opens a model. Dispose it (`using`).
 *
 * @throws as `openModel` and `openRemote`; InterruptedError.
 */
export async function openFor(word: string, options: OpenFor): Promise<OpenInput> {
  if (!isRemote(word)) return { model: openModel(word), [Symbol.dispose]: () => {} };
  const { context, log, output = null, keep } = options;
  let retries = 0;
  // Loaded here: local files need nothing of it.
  const { openInput } = await import(
    later("../run/workers/remote_input.ts")
  ) as typeof import("../run/workers/remote_input.ts");
  return await openInput(word, {
    workerUrl: context.workerUrl,
    env: Object.fromEntries(
      VARIABLES.map((name) => [name, readVariable(name)]).filter(([, value]) => value !== ""),
    ),
    signal: context.signal,
    keep,
    spillFolder: output === null ? "." : dirname(output),
    onNote: log.warn,
    onRetry: (text) => {
      retries++;
      if (retries <= TOLD_RETRIES) log.warn(text);
      else log.verbose(text);
      if (retries === TOLD_RETRIES) log.warn("--verbose VERBOSE reports all of them");
    },
  });
}
