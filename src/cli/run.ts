/** One run of the program: arguments in, exit code out. Loads only what the command needs. */

import { later } from "../core/later.ts";
import process from "node:process";
import { exitCodeOf, InterruptedError, splitHint } from "../core/errors.ts";
import { EarlyWorkers } from "../run/workers/run_thread.ts";
import type { CommandContext } from "./context.ts";
import { earlyWorkers } from "./early_workers.ts";
import { COMMANDS } from "./flags/flag.ts";
import { spelling } from "./flags/table.ts";
import type { Parsed } from "./parse.ts";
import { openTerminal, type Terminal } from "./terminal.ts";
import { versionLine } from "./version.ts";

export type { CommandContext } from "./context.ts";

/** Facts that only the root module knows. */
export interface RunEnvironment {
  /** URL of `src/run/workers/worker.ts`. */
  readonly workerUrl: URL;
  /** URL of the script that runs, so that another runtime can run it. */
  readonly program: string;
}

const HELP_PAGES = {
  "--help": "standard",
  "-h": "standard",
  "--help-filters": "filters",
  "-hf": "filters",
  "--help-experimental": "experimental",
  "-he": "experimental",
  "--help-advanced": "advanced",
  "-ha": "advanced",
} as const;

const USAGE = 2;
const INTERRUPTED = 130;

/**
 * Runs the command that `args` ask for and returns the exit code: 0 done, 1 failed, 2 usage,
 * 130 interrupted. Errors are reported on stderr in one line each; nothing is thrown.
 *
 * @param args the arguments without program and script.
 */
export async function run(args: readonly string[], env: RunEnvironment): Promise<number> {
  const isMachineRead = args.includes("--json") || args[0] === "completions";
  const terminal = openTerminal({ isMachineRead });
  if (process.platform !== "win32") return await runOn(terminal, args, env);
  const { argsOfDrop, hasOwnWindow, processFacts, waitForKey } = await import(
    later("./own_window.ts")
  ) as typeof import("./own_window.ts");
  if (!hasOwnWindow(processFacts(args))) return await runOn(terminal, args, env);
  const code = await runOn(terminal, argsOfDrop(args), env);
  if (args.length === 0) terminal.stderr("Drop a model on the program to convert it.");
  terminal.stderr("Press any key to close this window.");
  await waitForKey();
  return code;
}

async function runOn(
  terminal: Terminal,
  args: readonly string[],
  env: RunEnvironment,
): Promise<number> {
  const controller = new AbortController();
  const interrupt = () => {
    // The first one lets the run clean up; who asks twice does not want to wait for that.
    if (controller.signal.aborted) process.exit(INTERRUPTED);
    controller.abort(new InterruptedError());
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  // A closed terminal or a lost connection.
  process.on("SIGHUP", interrupt);
  const context: CommandContext = {
    ...terminal,
    signal: controller.signal,
    workerUrl: env.workerUrl,
    early: null,
  };
  try {
    return await dispatch(args, context, env);
  } catch (error) {
    report(error, { terminal, isDebug: wantsDebug(args) });
    if (args.includes("--json")) await reportEvent(error, terminal);
    return exitCodeOf(error);
  } finally {
    process.off("SIGINT", interrupt);
    process.off("SIGTERM", interrupt);
    process.off("SIGHUP", interrupt);
  }
}

async function dispatch(
  args: readonly string[],
  context: CommandContext,
  { program }: RunEnvironment,
): Promise<number> {
  const end = args.indexOf("--");
  const flags = (end < 0 ? args : args.slice(0, end)).map(spelling);
  const page = flags.find((word) => Object.hasOwn(HELP_PAGES, word)) as
    | keyof typeof HELP_PAGES
    | undefined;
  if (page !== undefined) {
    const { commandHelp, helpPage } = await import(
      later("./help.ts")
    ) as typeof import("./help.ts");
    const command = COMMANDS.find((name) => name === args[0]);
    const lines = command === undefined || command === "convert" || HELP_PAGES[page] !== "standard"
      ? helpPage(HELP_PAGES[page], context)
      : commandHelp(command, context);
    for (const line of lines) context.styled(line);
    return 0;
  }
  if (flags.includes("--version") || flags.includes("-V")) {
    context.stdout(versionLine());
    return 0;
  }
  if (args[0] === "help") {
    const { helpOn } = await import(later("./help.ts")) as typeof import("./help.ts");
    for (const line of helpOn(args.slice(1), context)) context.styled(line);
    return 0;
  }
  if (args.length === 0) {
    const { SHORT_USAGE } = await import(later("./help.ts")) as typeof import("./help.ts");
    for (const line of SHORT_USAGE) context.stderr(line);
    return USAGE;
  }
  const { parseArgs } = await import(later("./parse.ts")) as typeof import("./parse.ts");
  const parsed = parseArgs(args);
  if (parsed.string("device") === "gpu") {
    const { needsDeno, runInDeno } = await import(
      later("./run_in_deno.ts")
    ) as typeof import("./run_in_deno.ts");
    if (await needsDeno(parsed)) return await runInDeno({ args, program, stderr: context.stderr });
  }
  return await runCommand(parsed, context);
}

type Command = (parsed: Parsed, context: CommandContext) => number | Promise<number>;

/** How the code of each command is loaded, once it is asked for. */
const LOADERS: Readonly<Record<Parsed["command"], () => Promise<Command>>> = {
  convert: async () =>
    (await import(later("./commands/convert.ts")) as typeof import("./commands/convert.ts"))
      .convertCommand,
  inspect: async () =>
    (await import(later("./commands/inspect.ts")) as typeof import("./commands/inspect.ts"))
      .inspectCommand,
  verify: async () =>
    (await import(later("./commands/verify.ts")) as typeof import("./commands/verify.ts"))
      .verifyCommand,
  compare: async () =>
    (await import(later("./commands/compare.ts")) as typeof import("./commands/compare.ts"))
      .compareCommand,
  join: async () =>
    (await import(later("./commands/join.ts")) as typeof import("./commands/join.ts")).joinCommand,
  dequantize: async () =>
    (await import(later("./commands/dequantize.ts")) as typeof import("./commands/dequantize.ts"))
      .dequantizeCommand,
  batch: async () =>
    (await import(later("./commands/batch.ts")) as typeof import("./commands/batch.ts"))
      .batchCommand,
  edit: async () =>
    (await import(later("./commands/edit.ts")) as typeof import("./commands/edit.ts")).editCommand,
  migrate: async () =>
    (await import(later("./commands/migrate.ts")) as typeof import("./commands/migrate.ts"))
      .migrateCommand,
  calibrate: async () =>
    (await import(later("./commands/calibrate.ts")) as typeof import("./commands/calibrate.ts"))
      .calibrateCommand,
  presets: async () =>
    (await import(later("./commands/presets.ts")) as typeof import("./commands/presets.ts"))
      .presetsCommand,
  doctor: async () =>
    (await import(later("./commands/doctor.ts")) as typeof import("./commands/doctor.ts"))
      .doctorCommand,
  ui: async () =>
    (await import(later("./commands/ui.ts")) as typeof import("./commands/ui.ts")).uiCommand,
  completions: async () =>
    (await import(later("./completions.ts")) as typeof import("./completions.ts"))
      .completionsCommand,
};

async function runCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const isEdit = parsed.command === "convert" && parsed.bool("edit-quant");
  // Loading the command and planning the run take as long as a worker needs to begin.
  const willRun = parsed.command === "convert" && !isEdit && parsed.string("dry-run") === null;
  using early = willRun ? new EarlyWorkers(context.workerUrl, earlyWorkers(parsed)) : null;
  const command = await LOADERS[isEdit ? "edit" : parsed.command]();
  return await command(parsed, { ...context, early });
}

/** Looked for in the raw arguments: the error may be that they cannot be parsed. */
function wantsDebug(args: readonly string[]): boolean {
  return args.some((word, i) =>
    /^--verbose=debug$/i.test(word) ||
    (word === "--verbose" && args[i + 1]?.toUpperCase() === "DEBUG")
  );
}

function report(
  error: unknown,
  { terminal, isDebug }: { terminal: Terminal; isDebug: boolean },
): void {
  const oneLine = (text: string) => text.replace(/\s*\n\s*/g, " ");
  const whole = error instanceof Error ? error : new Error(String(error));
  // Programs that read stderr get one line; people get the advice on its own.
  const { message, hint } = terminal.stderrIsTTY
    ? splitHint(whole)
    : { message: whole.message, hint: null };
  terminal.stderr(`error: ${oneLine(message)}`);
  if (hint !== null) terminal.stderr(`help: ${oneLine(hint)}`);
  if (!isDebug) return;
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    const text = cause.stack ?? `${cause.name}: ${cause.message}`;
    for (const line of text.split("\n")) terminal.stderr(line);
  }
}

/** Reports to a program that reads stdout why the run failed. */
async function reportEvent(error: unknown, { stdout }: Terminal): Promise<void> {
  const { EventWriter } = await import(later("./events.ts")) as typeof import("./events.ts");
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  new EventWriter(stdout).error({ name, message, exit_code: exitCodeOf(error) });
}
