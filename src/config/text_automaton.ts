/**
 * Finds all of many texts in a string, in one pass over it: the automaton of Aho and Corasick. Time and memory
 * grow with the characters of the texts, then with those of the string and the number of finds.
 */

/** An automaton for some texts, none of them empty, each once. */
export class TextAutomaton {
  /** Of each node: the node of its longest proper suffix, that of its longest suffix that is a text, and which. */
  readonly #fail: Int32Array;
  readonly #next: Int32Array;
  readonly #text: Int32Array;
  /** Edges by node and character: an open hash table of nodes. */
  readonly #edges: Int32Array;
  readonly #parent: Int32Array;
  readonly #char: Uint16Array;
  readonly #mask: number;
  #nodes = 1;

  constructor(texts: readonly string[]) {
    const most = texts.reduce((sum, text) => sum + text.length, 1);
    this.#fail = new Int32Array(most);
    this.#next = new Int32Array(most).fill(-1);
    this.#text = new Int32Array(most).fill(-1);
    this.#parent = new Int32Array(most);
    this.#char = new Uint16Array(most);
    const size = 2 ** Math.ceil(Math.log2(2 * most));
    this.#mask = size - 1;
    this.#edges = new Int32Array(size);
    const depth = new Int32Array(most);
    texts.forEach((text, index) => {
      let node = 0;
      for (let i = 0; i < text.length; i++) {
        node = this.#child(node, text.charCodeAt(i));
        depth[node] = i + 1;
      }
      this.#text[node] = index;
    });
    this.#link(depth);
  }

  /** The place of the edge from `node` by `char` in the table: 0 in it if there is none. */
  #placeOf(node: number, char: number): number {
    let place = (Math.imul(node, 0x9e3779b1) ^ Math.imul(char, 0x85ebca6b)) & this.#mask;
    for (;;) {
      const found = this.#edges[place]!;
      if (found === 0 || (this.#parent[found] === node && this.#char[found] === char)) return place;
      place = (place + 1) & this.#mask;
    }
  }

  /** The node behind `node` by `char`, made if there is none. */
  #child(node: number, char: number): number {
    const place = this.#placeOf(node, char);
    if (this.#edges[place] !== 0) return this.#edges[place]!;
    const made = this.#nodes++;
    this.#parent[made] = node;
    this.#char[made] = char;
    this.#edges[place] = made;
    return made;
  }

  /** The node that follows `node` by `char`. */
  #step(node: number, char: number): number {
    for (;;) {
      const found = this.#edges[this.#placeOf(node, char)]!;
      if (found !== 0 || node === 0) return found;
      node = this.#fail[node]!;
    }
  }

  /** Links nodes to their suffixes, the shortest first. */
  #link(depth: Int32Array): void {
    const order = Int32Array.from({ length: this.#nodes }, (_, node) => node)
      .sort((a, b) => depth[a]! - depth[b]!);
    for (const node of order) {
      if (depth[node]! > 1) {
        this.#fail[node] = this.#step(this.#fail[this.#parent[node]!]!, this.#char[node]!);
      }
      const suffix = this.#fail[node]!;
      if (node !== 0) this.#next[node] = this.#text[suffix]! >= 0 ? suffix : this.#next[suffix]!;
    }
  }

  /** Calls `found` with the number of each text that `string` contains, as often as it does. */
  search(string: string, found: (text: number) => void): void {
    let node = 0;
    for (let i = 0; i < string.length; i++) {
      node = this.#step(node, string.charCodeAt(i));
      const first = this.#text[node]! >= 0 ? node : this.#next[node]!;
      for (let at = first; at >= 0; at = this.#next[at]!) found(this.#text[at]!);
    }
  }
}
