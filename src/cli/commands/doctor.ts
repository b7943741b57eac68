/** `quantsmith doctor`: what can compute here, whether it does so rightly, which flags suit it. */

import { UsageError } from "../../core/errors.ts";
import type { CommandContext } from "../context.ts";
import { diagnose } from "../doctor/diagnose.ts";
import { diagnosisJson, diagnosisLines } from "../doctor/report.ts";
import { verbosityOf } from "../files.ts";
import { visible } from "../format.ts";
import type { Parsed } from "../parse.ts";

/**
 * Runs the subcommand; returns the exit code, 0 whatever there is.
 *
 * @throws UsageError if something is named: it looks at the machine.
 */
export async function doctorCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const [extra] = parsed.positionals;
  if (extra !== undefined) {
    throw new UsageError(
      `Unexpected argument ${JSON.stringify(extra)}: \`quantsmith doctor\` looks at the machine; ` +
        "`quantsmith verify` looks at a file",
    );
  }
  const diagnosis = await diagnose({
    signal: context.signal,
    // Only who waits at a terminal wants to know what for.
    onAdapter: ({ name }) => {
      if (context.stderrIsTTY) context.stderr(`testing every kernel on ${visible(name)} ...`);
    },
  });
  const everyKernel = ["VERBOSE", "DEBUG"].includes(verbosityOf(parsed));
  const layout = { columns: context.columns, everyKernel };
  if (parsed.bool("json")) context.stdout(JSON.stringify(diagnosisJson(diagnosis)));
  else for (const line of diagnosisLines(diagnosis, layout)) context.stdout(line);
  return 0;
}
