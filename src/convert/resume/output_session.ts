/**
 * An output that another process can continue. Its partial files have names that every run of the same
 * output knows, a lock keeps runs apart, and a journal records what is in them, in steps: first the data
 * is made durable, then the journal says so.
 *
 * Every conversion keeps a journal, so that one that was killed can be resumed although nobody thought of
 * that when it was started; one that ends in seconds has none. Without `resume` a run that fails or is
 * interrupted removes everything, with it everything stays.
 */

import { UnsupportedError } from "../../core/errors.ts";
import { JournalFile, readJournal, removeJournal } from "../../safetensors/journal_file.ts";
import {
  recoverHeld,
  removeLeftovers,
  type WorkPaths,
  workPaths,
} from "../../safetensors/leftovers.ts";
import { fileSizeOf } from "../../safetensors/output_file.ts";
import { type LockTimes, OutputLock } from "../../safetensors/output_lock.ts";
import { OutputSet } from "../../safetensors/output_set.ts";
import type { ReplacedShards } from "../../safetensors/replaced_shards.ts";
import type { OutputLayout } from "../../safetensors/shard_layout.ts";
import type { FinishedWork, RunJournal } from "../../run/workers/checkpoints.ts";
import type { Task } from "../../run/tasks.ts";
import { type CheckedWork, checkFinished } from "./check_finished.ts";
import { differences, type Fingerprint } from "./fingerprint.ts";
import { decodeJournal, encodeFingerprint, encodeFinished } from "./progress_record.ts";

/** How often the journal is written, during a run. */
const SAVE_MS = 2000;

/** Times of a session in milliseconds. Default of each: its own. */
export interface SessionTimes extends LockTimes {
  readonly saveMs?: number;
}

/** How an output is written. */
export interface SessionOptions {
  /** Replace an existing output, and what an unfinished run left that cannot be resumed. */
  readonly force: boolean;
  /** Continue an unfinished run, and leave progress that can be continued. */
  readonly resume: boolean;
  /** Of this run; only asked for if it is needed. */
  readonly fingerprint: () => Fingerprint;
  /** Of this run, in their order. */
  readonly tasks: readonly Task[];
  /** Names of tasks whose bytes a later step of the run replaces. Absent: none. */
  readonly rewritten?: ReadonlySet<string>;
  readonly signal?: AbortSignal | undefined;
  readonly times?: SessionTimes;
}

/** Leftovers of an earlier run. */
type Left =
  | { readonly kind: "nothing" }
  | { readonly kind: "useless"; readonly why: readonly string[] }
  | { readonly kind: "work"; readonly finished: FinishedWork; readonly endBytes: number };

/** An output while it is written. End it with `commit` or `leave`. */
export class OutputSession {
  readonly output: OutputSet;
  /** Work that an earlier run finished; null: this one begins. */
  readonly resumed: FinishedWork | null;
  /** A sentence about progress of an earlier run that is discarded; null: there is none. */
  readonly note: string | null;
  readonly #paths: WorkPaths;
  readonly #lock: OutputLock;
  readonly #options: SessionOptions;
  #journal: JournalFile | null;

  private constructor(
    lock: OutputLock,
    { paths, output, journal, resumed, note, options }: {
      paths: WorkPaths;
      output: OutputSet;
      journal: JournalFile | null;
      resumed: FinishedWork | null;
      note: string | null;
      options: SessionOptions;
    },
  ) {
    this.output = output;
    this.resumed = resumed;
    this.note = note;
    this.#paths = paths;
    this.#lock = lock;
    this.#journal = journal;
    this.#options = options;
  }

  /**
   * Opens the output at `path`.
   *
   * @throws UnsupportedError if it exists and `force` is not set, if another process writes it, or
   *   if it is to be resumed and what was left was made otherwise; Error if it cannot be written.
   */
  static async open(
    path: string,
    layout: OutputLayout,
    options: SessionOptions,
  ): Promise<OutputSession> {
    const { force, resume, times } = options;
    const paths = workPaths(path, layout.parts.length);
    const { main, files } = paths;
    const lock = await OutputLock.take(paths.lock, main, times);
    let journal: JournalFile | null = null;
    try {
      if (paths.index !== null) recoverHeld(paths.index);
      const left = whatIsLeft(paths, files, layout, options);
      if (left.kind === "useless" && resume && !force) {
        throw new UnsupportedError(
          `Cannot resume ${JSON.stringify(main)}: ${left.why.join("; ")}; \`--force\` starts anew`,
        );
      }
      const finished = resume && left.kind === "work" ? left : null;
      const places = files.map((file, i) => ({
        ...layout.parts[i]!,
        output: file,
        path: paths.partial(file),
      }));
      const checked = finished === null ? null : await checkFinished(finished.finished, {
        tasks: options.tasks,
        places,
        rewritten: options.rewritten ?? new Set(),
        signal: options.signal,
      });
      await removeLeftovers(paths, { other: !resume || force, times });
      const output = OutputSet.create(path, layout, {
        force,
        partial: { pathOf: paths.partial, reuse: finished !== null },
      });
      if (finished !== null) journal = JournalFile.goOn(paths.journal, finished.endBytes);
      else removeJournal(paths.journal);
      return new OutputSession(lock, {
        paths,
        output,
        journal,
        resumed: checked?.finished ?? null,
        note: checked === null ? noteOf(left, options) : damageNote(checked),
        options,
      });
    } catch (error) {
      journal?.close();
      lock.release();
      throw error;
    }
  }

  /** Duties of the run for the journal. */
  get journal(): RunJournal {
    return {
      restored: this.resumed,
      saveMs: this.#options.times?.saveMs ?? SAVE_MS,
      keepsAtEnd: this.#options.resume,
      save: (finished) => this.#save(finished),
    };
  }

  /** Makes the output appear under its name and removes everything else, the shards of a replaced one too. */
  async commit(): Promise<ReplacedShards> {
    await this.output.sync();
    this.#lock.check();
    const replaced = this.output.commit();
    this.#end();
    return replaced;
  }

  /**
   * Ends a run that came to nothing. Returns whether it can be resumed: `resume` is set, something was
   * finished, and it is of use (`isUseful`). Touches nothing if another run has taken over: the files of
   * these names are its own.
   */
  leave({ isUseful }: { isUseful: boolean }): boolean {
    if (!this.#lock.isHeld) {
      this.output.keep();
      this.#journal?.close();
      this.#journal = null;
      this.#lock.release();
      return false;
    }
    const stays = this.#options.resume && isUseful && this.#journal !== null;
    if (stays) {
      this.output.keep();
      this.#journal!.close();
      this.#journal = null;
      this.#lock.release();
    } else {
      this.output.discard();
      this.#end();
    }
    return stays;
  }

  #end(): void {
    this.#journal?.close();
    this.#journal = null;
    removeJournal(this.#paths.journal);
    this.#lock.release();
  }

  async #save(finished: FinishedWork): Promise<void> {
    await this.output.sync();
    this.#lock.check();
    if (this.#journal === null) {
      this.#journal = JournalFile.create(this.#paths.journal);
      await this.#journal.append([encodeFingerprint(this.#options.fingerprint())]);
    }
    await this.#journal.append(encodeFinished(finished));
  }
}

function whatIsLeft(
  { partial, journal }: WorkPaths,
  files: readonly string[],
  { parts }: OutputLayout,
  { fingerprint }: SessionOptions,
): Left {
  const found = readJournal(journal);
  // Killed before the first entry: nothing is known of what it wrote.
  if (found === null || found.payloads.length === 0) return { kind: "nothing" };
  const said = decodeJournal(found.payloads);
  if (said === null) {
    return { kind: "useless", why: ["its journal is of another version of quantsmith"] };
  }
  const why = differences(said.fingerprint, fingerprint());
  if (why.length > 0) return { kind: "useless", why };
  const isWhole = files.every((file, i) => fileSizeOf(partial(file)) === parts[i]!.totalBytes);
  if (!isWhole) {
    return { kind: "useless", why: ["its partial file is missing, or has another size"] };
  }
  return { kind: "work", finished: said.finished, endBytes: found.endBytes };
}

function damageNote({ damaged, checked }: CheckedWork): string | null {
  if (damaged === 0) return null;
  return `${damaged} of ${checked} finished pieces of work are done again: their bytes in the ` +
    "partial file are not those that the journal vouches for; check the disk";
}

function noteOf(left: Left, { resume }: SessionOptions): string | null {
  if (left.kind === "useless") {
    return `what an unfinished run left is replaced: ${left.why.join("; ")}`;
  }
  if (resume || left.kind === "nothing") return null;
  return "discarding the partial output of an unfinished run (`--resume` continues it)";
}
