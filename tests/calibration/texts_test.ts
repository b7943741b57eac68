import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { keptTokens, readTexts, tokenizeTexts } from "../../src/calibration/texts.ts";
import { FormatError, UnsupportedError } from "../../src/core/errors.ts";
import { findEncoder } from "../../src/presets/encoders/find_encoder.ts";
import { temporaryFolder } from "../support/model_files.ts";
import { SMALL_MODELS } from "../run/encoder/small_models.ts";
import { wordTokenizer } from "../run/encoder/word_tokenizer.ts";

const shapes = new Map(Object.entries(SMALL_MODELS.find(({ title }) => title === "T5")!.shapes));
const GRAPH = findEncoder(shapes, { path: "", config: () => null });

function files() {
  const folder = temporaryFolder();
  const write = (name: string, content: string | Uint8Array) => {
    const path = join(folder.path, name);
    writeFileSync(path, content);
    return path;
  };
  return { write, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

Deno.test("readTexts() takes lines, or the strings of a JSON array with their line breaks", () => {
  using folder = files();
  assert.deepEqual(readTexts(folder.write("a.txt", "one\r\n\n  \ntwo three\n")), [
    "one",
    "two three",
  ]);
  const json = folder.write("a.json", JSON.stringify(["one\ntwo", "", "three"]));
  assert.deepEqual(readTexts(json), ["one\ntwo", "three"]);
});

Deno.test("readTexts() refuses files without text, of other encodings and of other JSON", () => {
  using folder = files();
  const refused = (path: string, message: RegExp) =>
    assert.throws(
      () => readTexts(path),
      (error) => error instanceof FormatError && error.path === path && message.test(error.message),
    );
  refused(folder.write("empty.txt", "\n \n"), /holds no text; write one text per line/);
  refused(folder.write("utf16.txt", Uint8Array.of(0xff, 0xfe, 0x41, 0)), /not UTF-8 text; save it/);
  refused(folder.write("a.json", '{"a": 1}'), /no JSON array of strings/);
  refused(folder.write("b.json", "[1, 2]"), /no JSON array of strings/);
});

Deno.test("tokenizeTexts() keeps every token, in an order of texts that the seed decides", () => {
  using folder = files();
  const path = folder.write("t.json", wordTokenizer(64));
  const texts = ["w1 w2 w3", "w4", "w5 w6"];
  const { tokens, lengths, shortened } = tokenizeTexts(texts, path, { graph: GRAPH, seed: 1 });
  assert.deepEqual([...tokens].sort((a, b) => a - b), [1, 2, 3, 4, 5, 6]);
  assert.deepEqual([[...lengths].sort(), shortened], [[1, 2, 3], 0]);
  const orders = [1, 2, 3, 4, 5].map((seed) =>
    tokenizeTexts(texts, path, { graph: GRAPH, seed }).lengths.join()
  );
  assert.ok(new Set(orders).size > 1);
});

Deno.test("tokenizeTexts() shortens texts to what the model takes, and keeps their last token", () => {
  using folder = files();
  const path = folder.write("t.json", wordTokenizer(64));
  const graph = { ...GRAPH, mostTokens: 3 };
  const { tokens, shortened } = tokenizeTexts(["w1 w2 w3 w4 w5"], path, { graph, seed: 1 });
  assert.deepEqual([[...tokens], shortened], [[1, 2, 5], 1]);
});

Deno.test("tokenizeTexts() refuses the tokenizer of another model, and what is no tokenizer", () => {
  using folder = files();
  const read = (content: string) => () =>
    tokenizeTexts(["w1"], folder.write("t.json", content), { graph: GRAPH, seed: 1 });
  const other = (size: number) => (error: unknown) =>
    error instanceof UnsupportedError &&
    error.message.includes(`it has ${size} tokens, and the embedding of this T5 has 64 rows`);
  assert.throws(read(wordTokenizer(65)), other(65));
  assert.throws(read(wordTokenizer(48)), other(48));
  for (const content of ["{}", "text", '{"model": {"type": "Nothing"}}']) {
    assert.throws(
      read(content),
      (error) => error instanceof FormatError && /no tokenizer\.json/.test(error.message),
    );
  }
});

Deno.test("keptTokens() keeps all or an even part of the tokens, and names their texts", () => {
  const lengths = [5, 1, 40, 54];
  const all = keptTokens(lengths, { rows: 200, seed: 1 });
  assert.deepEqual([...all.kept], Array.from({ length: 100 }, (_, i) => i));
  assert.deepEqual(all.origins, lengths);
  const hits = new Int32Array(100);
  for (let seed = 0; seed < 400; seed++) {
    const { kept, origins } = keptTokens(lengths, { rows: 20, seed });
    assert.equal(new Set(kept).size, 20);
    assert.deepEqual([...kept], [...kept].sort((a, b) => a - b));
    assert.equal(origins.reduce((sum, count) => sum + count, 0), 20);
    kept.forEach((token) => hits[token]!++);
  }
  // 80 hits each on average, with a deviation of 8.
  assert.ok(hits.every((count) => count > 40 && count < 120), `${hits}`);
});
