/** Progress on stderr: a bar on a terminal, otherwise a plain line every 5 %. */

import type { CommandContext } from "./context.ts";
import { formatBytes, formatEta, shortName } from "./format.ts";

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

/** The facts of a progress line. */
export interface ProgressFacts {
  readonly percent: number;
  readonly done: string;
  readonly total: string;
  readonly rate: string;
  readonly eta: string;
}

const LINE_STEP_PERCENT = 5;

const BAR_OPTIONS = {
  format: "{bar} {percent}%  {done} of {all}  {rate}  ETA {left}  {current}",
  hideCursor: true,
  clearOnComplete: true,
  linewrap: false,
  fps: 10,
  // A line written meanwhile takes the bar away: it is drawn again though nothing has changed.
  forceRedraw: true,
} as const;

/** Width of the bar line without bar and layer: percent, two sizes, rate, ETA, and spaces. */
const FACTS_COLUMNS = 53;
const MAX_BAR_COLUMNS = 24;
const MIN_BAR_COLUMNS = 8;
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
    eta: bytesPerMs === 0 ? "?" : formatEta((totalBytes - doneBytes) / bytesPerMs),
  };
}

/** Returns how a terminal of `columns` characters is shared between the bar and the layer's name. Pure. */
export function barLayout(columns: number): { readonly bar: number; readonly name: number } {
  const free = columns - 1 - FACTS_COLUMNS;
  const bar = Math.max(MIN_BAR_COLUMNS, Math.min(MAX_BAR_COLUMNS, Math.floor(free / 3)));
  return { bar, name: Math.max(MIN_NAME_COLUMNS, free - bar) };
}

/** Returns the view for this process: none, a bar, or plain lines. */
export function createProgress(
  { enabled, context }: { enabled: boolean; context: CommandContext },
): ProgressView {
  if (!enabled) return { update: () => {}, stop: () => {} };
  return context.canDraw ? createBar(context) : createLines(context.stderr);
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

/** What is used of the package that draws bars. */
export interface Bars {
  readonly SingleBar: new (options: object, preset: object) => {
    start(total: number, value: number, payload: object): void;
    update(value: number, payload: object): void;
    stop(): void;
  };
  readonly Presets: { readonly shades_classic: object };
}

/**
 * Returns a bar. The package that draws it is loaded once there is something to show: it takes longer than the
 * plan of a model, and the first layer would wait for it.
 *
 * @param load loads the package.
 */
export function createBar(
  { columns }: Pick<CommandContext, "columns">,
  load: () => Promise<Bars> = async () => (await import("cli-progress")).default,
): ProgressView {
  const layout = barLayout(columns), startedMs = performance.now();
  let state: "idle" | "loading" | "drawn" | "stopped" = "idle";
  let bar: InstanceType<Bars["SingleBar"]> | null = null;
  let latest: ProgressState | null = null;
  const payloadOf = (progress: ProgressState) => {
    const facts = progressFacts(progress, performance.now() - startedMs);
    return {
      percent: facts.percent,
      done: facts.done,
      all: facts.total,
      rate: facts.rate,
      left: facts.eta,
      current: shortName(progress.current, layout.name),
    };
  };
  const begin = ({ SingleBar, Presets }: Bars): void => {
    if (state !== "loading" || latest === null) return;
    bar = new SingleBar({ ...BAR_OPTIONS, barsize: layout.bar }, Presets.shades_classic);
    bar.start(latest.totalBytes, latest.doneBytes, payloadOf(latest));
    state = "drawn";
  };
  return {
    update(progress) {
      latest = progress;
      if (bar !== null && state === "drawn") bar.update(progress.doneBytes, payloadOf(progress));
      if (state !== "idle" || progress.doneBytes >= progress.totalBytes) return;
      state = "loading";
      // Without a bar the work goes on all the same.
      load().then(begin, () => state = "stopped");
    },
    stop() {
      if (state === "drawn") bar?.stop();
      state = "stopped";
    },
  };
}
