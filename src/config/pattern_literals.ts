/**
 * What a regular expression says literally. Two uses: of two patterns that match a layer, the one
 * that spells out more of it is meant more specifically; and a name without a pattern's longest
 * required text cannot match, which is far cheaper to find out than by matching.
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
  /** A text that every match contains; `""` where there is none. */
  readonly required: string;
  /** What the pattern spells out, dots as they are, where it is literal all through; else null. */
  readonly exact: string | null;
}

/** Returns the literal parts of `pattern`. */
export function patternLiterals(pattern: string): PatternLiterals {
  const reader = new Reader(pattern);
  const literals = reader.alternatives();
  // Letters may stand for their other case: nothing is required then.
  return reader.ignoresCase ? { ...literals, required: "", exact: null } : literals;
}

const NOTHING: PatternLiterals = { longest: 0, required: "", exact: "" };

/** One element of a sequence, before its quantifier. */
type Atom =
  | { readonly kind: "char"; readonly char: string; readonly wild: boolean }
  | { readonly kind: "group"; readonly literals: PatternLiterals }
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

  alternatives(): PatternLiterals {
    const branches = [this.#sequence()];
    while (this.#text[this.#at] === "|") {
      this.#at++;
      branches.push(this.#sequence());
    }
    if (branches.length === 1) return branches[0]!;
    return { longest: Math.min(...branches.map((b) => b.longest)), required: "", exact: null };
  }

  #sequence(): PatternLiterals {
    let longest = 0;
    let required = "";
    let exact: string | null = "";
    let run = ""; // literal or dots
    let strict = ""; // literal only
    const end = () => {
      longest = Math.max(longest, run.length);
      if (strict.length > required.length) required = strict;
      run = strict = "";
    };
    while (this.#at < this.#text.length && !"|)".includes(this.#text[this.#at]!)) {
      const atom = this.#atom();
      const least = this.#quantifier();
      if (atom.kind === "empty") continue;
      if (least !== null) exact = null;
      if (atom.kind === "char" && least !== 0) {
        run += atom.char;
        if (exact !== null) exact += atom.char;
        if (atom.wild) {
          if (strict.length > required.length) required = strict;
          strict = "";
        } else strict += atom.char;
        if (least !== null) end(); // `a+` may repeat: what follows is not adjacent
        continue;
      }
      end();
      if (atom.kind === "group") {
        if (least !== 0) {
          longest = Math.max(longest, atom.literals.longest);
          if (atom.literals.required.length > required.length) required = atom.literals.required;
        }
        exact = exact === null || atom.literals.exact === null ? null : exact + atom.literals.exact;
      } else exact = null;
    }
    end();
    return { longest, required, exact };
  }

  #atom(): Atom {
    const char = this.#text[this.#at++]!;
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

  #escape(): Atom {
    const char = this.#text[this.#at++] ?? "";
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

  /** Returns how often the atom before it occurs at least; null where there is no quantifier. */
  #quantifier(): number | null {
    const match = /^(?:([*+?])|\{(\d+)(?:,\d*)?\})[?+]?/.exec(
      this.#text.slice(this.#at, this.#at + 16),
    );
    if (match === null) return null;
    this.#at += match[0].length;
    return match[2] === undefined ? (match[1] === "+" ? 1 : 0) : Number(match[2]);
  }
}
