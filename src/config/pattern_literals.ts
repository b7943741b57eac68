/**
 * The literal text in a regular expression. Two uses: of two patterns that match a layer, the one
 * that spells out more of it is meant more specifically; and a name without the texts that a pattern
 * requires cannot match, which is far cheaper to find out than by matching.
 *
 * The pattern is known to compile (RE2 syntax); this reads it again, and errs towards less literal.
 */

/** The literal parts of a pattern. */
export interface PatternLiterals {
  /**
   * Length of the longest run of literal characters, a single `.` counting as one: nobody escapes
   * the dots of layer names. Of alternatives, the shortest counts.
   */
  readonly longest: number;
  /** Every match contains, of each of these lists, one text at least. None is empty. */
  readonly required: readonly (readonly string[])[];
  /** The name that the pattern spells out, dots as they are, if it is literal all through; else null. */
  readonly exact: string | null;
}

/** Returns the literal parts of `pattern`. */
export function patternLiterals(pattern: string): PatternLiterals {
  const reader = new Reader(pattern);
  const { longest, required, exact } = reader.alternatives();
  // Letters may stand for their other case: nothing is required then.
  return reader.ignoresCase ? { longest, required: [], exact: null } : { longest, required, exact };
}

/** Most texts of one list: `(1|2|3)` makes three of what stands around it. */
const MAX_TEXTS = 64;

/** Known facts about a part of a pattern. */
interface PartLiterals extends PatternLiterals {
  /** All texts that it matches; null where they are not known, or too many. */
  readonly words: readonly string[] | null;
}

const NOTHING: PartLiterals = { longest: 0, required: [], exact: "", words: [""] };

/** One element of a sequence, before its quantifier. */
type Atom =
  | { readonly kind: "char"; readonly char: string; readonly wild: boolean }
  | { readonly kind: "group"; readonly literals: PartLiterals }
  /** A class or another escape: one character, not known which. */
  | { readonly kind: "any" }
  /** `^`, `$`, `\b`, flags: no characters. */
  | { readonly kind: "empty" };

class Reader {
  readonly #text: string;
  #at = 0;
  ignoresCase = false;

  constructor(text: string) {
    this.#text = text;
  }

  alternatives(): PartLiterals {
    const branches = [this.#sequence()];
    while (this.#text[this.#at] === "|") {
      this.#at++;
      branches.push(this.#sequence());
    }
    if (branches.length === 1) return branches[0]!;
    return {
      longest: Math.min(...branches.map((b) => b.longest)),
      required: listOf(branches.map(({ required }) => longestTexts(required))),
      exact: null,
      words: listOf(branches.map(({ words }) => words))[0] ?? null,
    };
  }

  #sequence(): PartLiterals {
    let longest = 0;
    let exact: string | null = "";
    let run = ""; // literal or dots
    const texts = new Texts();
    const end = () => {
      longest = Math.max(longest, run.length);
      run = "";
    };
    while (this.#at < this.#text.length && !"|)".includes(this.#text[this.#at]!)) {
      const atom = this.#atom();
      const least = this.#quantifier();
      if (atom.kind === "empty") continue;
      if (least !== null) exact = null;
      if (atom.kind === "char" && least !== 0) {
        run += atom.char;
        if (exact !== null) exact += atom.char;
        if (atom.wild) texts.end();
        else texts.append([atom.char]);
        if (least !== null) { // `a+` may repeat: what follows is not adjacent
          end();
          texts.end();
        }
        continue;
      }
      end();
      if (atom.kind === "group") {
        const { literals } = atom;
        if (least !== 0) longest = Math.max(longest, literals.longest);
        exact = exact === null || literals.exact === null ? null : exact + literals.exact;
        if (least !== null || literals.words === null || !texts.append(literals.words)) {
          texts.end();
          if (least !== 0) texts.lists.push(...literals.required);
        }
      } else {
        exact = null;
        texts.end();
      }
    }
    end();
    const words = texts.words();
    texts.end();
    return { longest, required: texts.lists, exact, words };
  }

  #atom(): Atom {
    const char = this.#character();
    switch (char) {
      case "\\":
        return this.#escape();
      case "[":
        this.#skipClass();
        return { kind: "any" };
      case "(":
        return this.#group();
      case "^":
      case "$":
        return { kind: "empty" };
      default:
        return { kind: "char", char, wild: char === "." };
    }
  }

  /** One character as RE2 counts them, not half of one: a quantifier after it means all of it. */
  #character(): string {
    const code = this.#text.codePointAt(this.#at);
    const char = code === undefined ? "" : String.fromCodePoint(code);
    this.#at += char.length;
    return char;
  }

  #escape(): Atom {
    const char = this.#character();
    if (/[^\p{L}\p{N}]/u.test(char)) return { kind: "char", char, wild: false };
    if (/[bBAzZ]/.test(char)) return { kind: "empty" };
    if (char === "Q") { // quoted up to \E: rare enough to say nothing about it
      const end = this.#text.indexOf("\\E", this.#at);
      this.#at = end < 0 ? this.#text.length : end + 2;
      return { kind: "any" };
    }
    const rest = this.#text.slice(this.#at);
    const operand = /[xpP]/.test(char)
      ? /^(\{[^}]*\}|[0-9A-Fa-f]{2}|.)/u.exec(rest)
      : /\d/.test(char)
      ? /^\d+/.exec(rest)
      : null;
    this.#at += operand?.[0].length ?? 0;
    return { kind: "any" };
  }

  #skipClass(): void {
    if (this.#text[this.#at] === "^") this.#at++;
    let first = true;
    for (; this.#at < this.#text.length; first = false) {
      const char = this.#text[this.#at]!;
      if (char === "]" && !first) break;
      if (char === "\\") this.#at += 2;
      else if (char === "[" && this.#text[this.#at + 1] === ":") {
        const end = this.#text.indexOf(":]", this.#at);
        this.#at = end < 0 ? this.#at + 1 : end + 2;
      } else this.#at++;
    }
    this.#at++;
  }

  #group(): Atom {
    const head = /^\?(?:P?<[^>]*>|([a-zA-Z-]*)(:|\)))/.exec(this.#text.slice(this.#at));
    if (head !== null) {
      this.#at += head[0].length;
      if (head[1]?.includes("i")) this.ignoresCase = true;
      if (head[2] === ")") return { kind: "empty" };
    }
    const literals = this.#text[this.#at] === ")" ? NOTHING : this.alternatives();
    this.#at++; // the parenthesis that closes it
    return { kind: "group", literals };
  }

  /** Returns how often the atom before it occurs at least; null if there is no quantifier. */
  #quantifier(): number | null {
    const match = /^(?:([*+?])|\{(\d+)(?:,\d*)?\})[?+]?/.exec(
      this.#text.slice(this.#at, this.#at + 16),
    );
    if (match === null) return null;
    this.#at += match[0].length;
    return match[2] === undefined ? (match[1] === "+" ? 1 : 0) : Number(match[2]);
  }
}

/** Collects the texts of a sequence: what is adjacent grows together, until something unknown ends it. */
class Texts {
  readonly lists: (readonly string[])[] = [];
  #open: readonly string[] = [""];
  #isWhole = true;

  /** Appends one of `words`; false, with nothing done, if that makes too many texts. */
  append(words: readonly string[]): boolean {
    if (this.#open.length * words.length > MAX_TEXTS) return false;
    this.#open = this.#open.flatMap((text) => words.map((word) => text + word));
    return true;
  }

  /** The next part is not adjacent. */
  end(): void {
    if (this.#open.every((text) => text !== "")) this.lists.push(this.#open);
    this.#open = [""];
    this.#isWhole = false;
  }

  /** All that the sequence matches; null if that is not known. */
  words(): readonly string[] | null {
    return this.#isWhole ? this.#open : null;
  }
}

/** Returns the list whose shortest text is longest; null if there is none. */
function longestTexts(lists: readonly (readonly string[])[]): readonly string[] | null {
  const shortest = (list: readonly string[]) => Math.min(...list.map((text) => text.length));
  return lists.toSorted((a, b) => shortest(b) - shortest(a))[0] ?? null;
}

/** Returns one list of the texts of all alternatives; none if one of them requires nothing. */
function listOf(
  alternatives: readonly (readonly string[] | null)[],
): readonly (readonly string[])[] {
  const texts = alternatives.flatMap((list) => list ?? []);
  return alternatives.includes(null) || texts.length > MAX_TEXTS ? [] : [[...new Set(texts)]];
}
