/**
 * Finds names that contain a text: a few texts at the cost of a search in one string each, many that are known
 * beforehand in one pass over all names.
 */

import { TextAutomaton } from "./text_automaton.ts";

/** Characters that are searched for single texts at most, all searches together. */
const SEARCHED_CHARS = 1e8;

/** Names, searchable by what they contain. */
export class NameIndex {
  readonly #names: readonly string[];
  readonly #text: string;
  /** Offset of each name in the text. */
  readonly #starts: readonly number[];
  readonly #found = new Map<string, readonly number[]>();

  /** @param names in any order; a part that spans a line break is not looked for across names. */
  constructor(names: readonly string[]) {
    this.#names = names;
    this.#text = names.join("\n");
    let offset = 0;
    this.#starts = names.map((name) => {
      const start = offset;
      offset += name.length + 1;
      return start;
    });
  }

  /** Returns the indices of the names that contain `part`, ascending; of all if it is empty. */
  containing(part: string): number[] {
    if (part === "") return this.#names.map((_, index) => index);
    const found: number[] = [];
    for (let at = this.#text.indexOf(part); at >= 0;) {
      const index = this.#nameAt(at);
      found.push(index);
      const next = this.#starts[index + 1];
      at = next === undefined ? -1 : this.#text.indexOf(part, next);
    }
    return found;
  }

  /** Gets ready for texts that will be asked for. */
  prepare(texts: Iterable<string>): void {
    const asked = [...new Set(texts)].filter((text) => text !== "" && !text.includes("\n"));
    if (asked.length * this.#text.length <= SEARCHED_CHARS) return;
    const automaton = new TextAutomaton(asked), found = asked.map((): number[] => []);
    this.#names.forEach((name, index) => {
      automaton.search(name, (text) => {
        const list = found[text]!;
        if (list.at(-1) !== index) list.push(index);
      });
    });
    asked.forEach((text, i) => this.#found.set(text, found[i]!));
  }

  /**
   * Returns the indices of few names, ascending, among them all that contain one text at least of each
   * of `lists`: those for the list that fewest names satisfy.
   */
  candidates(lists: readonly (readonly string[])[]): readonly number[] {
    let fewest: readonly number[] | null = null;
    for (const list of lists) {
      const found = list.length === 1
        ? this.#known(list[0]!)
        : [...new Set(list.flatMap((text) => this.#known(text)))].sort((a, b) => a - b);
      if (fewest === null || found.length < fewest.length) fewest = found;
    }
    return fewest ?? this.#known("");
  }

  /** Patterns share their texts: each is looked for once. */
  #known(part: string): readonly number[] {
    let found = this.#found.get(part);
    if (found === undefined) this.#found.set(part, found = this.containing(part));
    return found;
  }

  /** Returns the last name that begins at or before `offset`. */
  #nameAt(offset: number): number {
    let low = 0;
    let high = this.#starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle]! <= offset) low = middle;
      else high = middle;
    }
    return low;
  }
}
