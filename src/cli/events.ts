/**
 * A conversion as JSON events, one per line: `start`, `tensor`, `measured`, `done`, with `warning` between
 * and `error` at the end of a run that failed; a batch has more around them.
 */

import { VERSION } from "../core/version.ts";
import { withSingleBackslashes } from "./shown_text.ts";

/** Writes events to stdout. Keys of the events are stable; more may be added. */
export class EventWriter {
  readonly #line: (line: string) => void;

  /** @param line writes one line; the newline is its business. */
  constructor(line: (line: string) => void) {
    this.#line = line;
  }

  /** Before the work: what will be written, and how. */
  start(facts: Readonly<Record<string, unknown>>): void {
    this.#write("start", { version: VERSION, ...facts });
  }

  /** At any time before the end: what a user should know. */
  warning(message: string): void {
    this.#write("warning", { message: withSingleBackslashes(message) });
  }

  /** Instead of the last event of a run that failed. */
  error(
    facts: { readonly name: string; readonly message: string; readonly exit_code: number },
  ): void {
    this.#write("error", { ...facts, message: withSingleBackslashes(facts.message) });
  }

  /** Before an edit: each change that will be made. */
  change(facts: Readonly<Record<string, unknown>>): void {
    this.#write("change", facts);
  }

  /** After each tensor: what became of it, with its errors. */
  tensor(facts: Readonly<Record<string, unknown>>): void {
    this.#write("tensor", facts);
  }

  /** After all tensors: the errors of a layer's outputs, and what became of its bias. */
  measured(facts: Readonly<Record<string, unknown>>): void {
    this.#write("measured", facts);
  }

  /** After the work: totals. */
  done(facts: Readonly<Record<string, unknown>>): void {
    this.#write("done", facts);
  }

  /** Before a batch: what will be done with each model. */
  batch(facts: Readonly<Record<string, unknown>>): void {
    this.#write("batch", facts);
  }

  /** After each model of a batch: what became of it. */
  file(facts: Readonly<Record<string, unknown>>): void {
    this.#write("file", facts);
  }

  /** After a batch: how many models became what. */
  batchDone(facts: Readonly<Record<string, unknown>>): void {
    this.#write("batch_done", facts);
  }

  #write(event: string, facts: Readonly<Record<string, unknown>>): void {
    this.#line(JSON.stringify({ event, ...facts }));
  }
}
