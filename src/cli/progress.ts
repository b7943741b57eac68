/** Progress on stderr: a bar on a terminal, otherwise a plain line every 5 %. */

import type { CommandContext } from "./context.ts";
import { formatBytes, formatSeconds } from "./format.ts";

/** How far a run is. */
export interface ProgressState {
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** Name of the layer in work. */
  readonly current: string;
}

/** Shows how far a run is. */
export interface ProgressView {
  update(progress: ProgressState): void;
  /** Takes the bar away. */
  stop(): void;
}

/** What a progress line says. */
export interface ProgressFacts {
  readonly percent: number;
  readonly done: string;
  readonly total: string;
  readonly rate: string;
  readonly eta: string;
}

const LINE_STEP_PERCENT = 5;
const BAR_COLUMNS = 24;

/** Width of the bar line without the layer: bar, percent, two sizes, rate, ETA. */
const FIXED_COLUMNS = BAR_COLUMNS + 60;
const MIN_NAME_COLUMNS = 8;

/** Returns the facts of a moment `elapsedMs` after the start. Pure. */
export function progressFacts(
  { doneBytes, totalBytes }: ProgressState,
  elapsedMs: number,
): ProgressFacts {
  const bytesPerMs = doneBytes / Math.max(elapsedMs, 1);
  return {
    percent: totalBytes === 0 ? 100 : Math.floor((100 * doneBytes) / totalBytes),
    done: formatBytes(doneBytes),
    total: formatBytes(totalBytes),
    rate: `${formatBytes(bytesPerMs * 1000)}/s`,
    eta: bytesPerMs === 0 ? "?" : formatSeconds((totalBytes - doneBytes) / bytesPerMs),
  };
}

/** Returns the last `columns` characters of a layer's name, where its end tells more. Pure. */
export function truncateName(name: string, columns: number): string {
  return name.length <= columns ? name : `…${name.slice(name.length - columns + 1)}`;
}

/** Returns the view for this process: none, a bar, or plain lines. */
export async function createProgress(
  { enabled, context }: { enabled: boolean; context: CommandContext },
): Promise<ProgressView> {
  if (!enabled) return { update: () => {}, stop: () => {} };
  return context.stderrIsTTY ? await createBar(context) : createLines(context.stderr);
}

function createLines(line: (text: string) => void): ProgressView {
  const startedMs = performance.now();
  let nextPercent = LINE_STEP_PERCENT;
  return {
    update(progress) {
      const { percent, done, total, rate, eta } = progressFacts(
        progress,
        performance.now() - startedMs,
      );
      if (percent < nextPercent) return;
      nextPercent = (Math.floor(percent / LINE_STEP_PERCENT) + 1) * LINE_STEP_PERCENT;
      const name = progress.current === "" ? "" : `  ${progress.current}`;
      line(`${String(percent).padStart(3)}%  ${done} of ${total}  ${rate}  ETA ${eta}${name}`);
    },
    stop() {},
  };
}

async function createBar({ columns }: CommandContext): Promise<ProgressView> {
  const { default: cliProgress } = await import("cli-progress");
  const bar = new cliProgress.SingleBar({
    format: "{bar} {percent}%  {done} of {all}  {rate}  ETA {left}  {current}",
    barsize: BAR_COLUMNS,
    hideCursor: true,
    clearOnComplete: true,
    linewrap: false,
    fps: 10,
  }, cliProgress.Presets.shades_classic);
  const startedMs = performance.now();
  let isStarted = false;
  return {
    update(progress) {
      const facts = progressFacts(progress, performance.now() - startedMs);
      const payload = {
        percent: facts.percent,
        done: facts.done,
        all: facts.total,
        rate: facts.rate,
        left: facts.eta,
        current: truncateName(
          progress.current,
          Math.max(MIN_NAME_COLUMNS, columns - FIXED_COLUMNS),
        ),
      };
      if (isStarted) bar.update(progress.doneBytes, payload);
      else bar.start(progress.totalBytes, progress.doneBytes, payload);
      isStarted = true;
    },
    stop() {
      if (isStarted) bar.stop();
      isStarted = false;
    },
  };
}
