/** Texts of a user as tokens, and the choice of those whose inputs are kept. */

import * as v from "valibot";
import { Tokenizer } from "@huggingface/tokenizers";
import { FormatError, UnsupportedError } from "../core/errors.ts";
import { randomFor } from "../core/rng.ts";
import type { EncoderGraph } from "../presets/encoders/encoder_graph.ts";
import { readSmallFile } from "../safetensors/small_file.ts";

/** Tokens of a text that count, if the model takes any number. */
const TOKENS_MAX = 1024;

/** A larger share of the embedding without tokens means that the tokenizer is of another model. */
const UNUSED_SHARE_MAX = 0.02;

const TEXTS = v.array(v.string());

/**
 * Returns the texts of a file that are not blank: its lines, or the strings of a JSON array, which may have
 * line breaks.
 *
 * @throws FormatError if it is no text, or has none.
 */
export function readTexts(path: string): string[] {
  const text = readText(path);
  const fail = (rule: string, hint: string): never => {
    throw new FormatError(rule, { path, hint });
  };
  let texts: readonly string[];
  if (path.toLowerCase().endsWith(".json")) {
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), TEXTS), text);
    if (!parsed.success) {
      return fail("it is no JSON array of strings", 'write it as ["first text", "second text"]');
    }
    texts = parsed.output;
  } else texts = text.split(/\r?\n/);
  const found = texts.filter((each) => each.trim() !== "");
  if (found.length === 0) fail("it holds no text", "write one text per line, 100 or more");
  return found;
}

function readText(path: string): string {
  const bytes = readSmallFile(path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError("it is not UTF-8 text", { path, cause, hint: "save it as UTF-8" });
  }
}

/** The tokens of some texts. */
export interface TokenizedTexts {
  readonly tokens: Int32Array;
  /** Tokens of each text. */
  readonly lengths: readonly number[];
  /** How many texts were longer than what counts. */
  readonly shortened: number;
}

/**
 * Returns the tokens of texts, in an order that the seed decides, so that the last of them, with which
 * errors are measured, are of all sorts.
 *
 * @param path of a `tokenizer.json`.
 * @throws FormatError if it is none; UnsupportedError if it is of another model.
 */
export function tokenizeTexts(
  texts: readonly string[],
  path: string,
  { graph, seed }: { readonly graph: EncoderGraph; readonly seed: number },
): TokenizedTexts {
  const tokenizer = openTokenizer(path);
  refuseOther(tokenizer, path, graph);
  const most = Math.min(graph.mostTokens ?? TOKENS_MAX, TOKENS_MAX);
  let shortened = 0;
  const encoded = shuffled(texts, seed).map((text) => {
    const { ids } = tokenizer.encode(text);
    if (ids.length <= most) return ids;
    shortened++;
    // The last token ends the text.
    return [...ids.slice(0, most - 1), ids.at(-1)!];
  }).filter((ids) => ids.length > 0);
  const tokens = Int32Array.from(encoded.flat());
  if (tokens.length === 0) {
    throw new UnsupportedError(`Cannot use tokenizer ${JSON.stringify(path)}: it makes no tokens`);
  }
  const odd = tokens.find((id) => !(id >= 0 && id < graph.vocabulary));
  if (odd !== undefined) {
    throw new UnsupportedError(
      `Cannot use tokenizer ${
        JSON.stringify(path)
      }: it makes token ${odd}, and the embedding of the ` +
        `model has ${graph.vocabulary} rows; take the tokenizer.json of this model`,
    );
  }
  return { tokens, lengths: encoded.map((ids) => ids.length), shortened };
}

function openTokenizer(path: string): Tokenizer {
  const text = readText(path);
  try {
    return new Tokenizer(JSON.parse(text), {});
  } catch (cause) {
    throw new FormatError("it is no tokenizer.json of Hugging Face", {
      path,
      cause,
      hint: "take tokenizer.json from the repository of the model",
    });
  }
}

/** A vocabulary that is larger or much smaller than the embedding is that of another model. */
function refuseOther(
  tokenizer: Tokenizer,
  path: string,
  { vocabulary, title }: EncoderGraph,
): void {
  let size = 0;
  for (const id of tokenizer.get_vocab().values()) size = Math.max(size, id + 1);
  if (size <= vocabulary && size >= vocabulary * (1 - UNUSED_SHARE_MAX)) return;
  throw new UnsupportedError(
    `Cannot use tokenizer ${
      JSON.stringify(path)
    }: it has ${size} tokens, and the embedding of this ` +
      `${title} has ${vocabulary} rows; take the tokenizer.json of this model`,
  );
}

function shuffled<T>(items: readonly T[], seed: number): T[] {
  const out = [...items], next = randomFor(seed, "texts");
  for (let i = out.length - 1; i > 0; i--) {
    const j = next() % (i + 1);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}

/** Tokens whose inputs are kept. */
export interface KeptTokens {
  /** Their numbers, ascending. */
  readonly kept: Int32Array;
  /** How many there are of each text that has some, in the order of the texts. */
  readonly origins: readonly number[];
}

/** Returns `rows` tokens, each as likely as the others; all if there are not so many. */
export function keptTokens(
  lengths: readonly number[],
  { rows, seed }: { readonly rows: number; readonly seed: number },
): KeptTokens {
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const all = Int32Array.from({ length: total }, (_, i) => i), next = randomFor(seed, "rows");
  const count = Math.min(rows, total);
  for (let i = 0; i < count; i++) {
    const j = i + next() % (total - i);
    [all[i], all[j]] = [all[j]!, all[i]!];
  }
  const kept = all.slice(0, count).sort();
  const origins: number[] = [];
  let start = 0, at = 0;
  for (const length of lengths) {
    const first = at;
    while (at < count && kept[at]! < start + length) at++;
    if (at > first) origins.push(at - first);
    start += length;
  }
  return { kept, origins };
}
