/** A conversion as JSON events, one per line: `start`, `tensor`, `done`. */

/** Writes events to stdout. Keys of the events are stable; more may be added. */
export class EventWriter {
  readonly #line: (line: string) => void;

  /** @param line writes one line; the newline is its business. */
  constructor(line: (line: string) => void) {
    this.#line = line;
  }

  /** Before the work: what will be written, and how. */
  start(facts: Readonly<Record<string, unknown>>): void {
    this.#write("start", facts);
  }

  /** After each tensor: what became of it, with its errors. */
  tensor(facts: Readonly<Record<string, unknown>>): void {
    this.#write("tensor", facts);
  }

  /** After the work: totals. */
  done(facts: Readonly<Record<string, unknown>>): void {
    this.#write("done", facts);
  }

  #write(event: string, facts: Readonly<Record<string, unknown>>): void {
    this.#line(JSON.stringify({ event, ...facts }));
  }
}
