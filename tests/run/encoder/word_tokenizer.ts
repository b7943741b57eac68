/** A tokenizer.json of the words `w0`, `w1`, ..., one token each. */
export function wordTokenizer(size: number): string {
  const vocab = Object.fromEntries(Array.from({ length: size }, (_, i) => [`w${i}`, i]));
  return JSON.stringify({
    ...{ version: "1.0", truncation: null, padding: null, added_tokens: [] },
    normalizer: null,
    pre_tokenizer: { type: "Whitespace" },
    ...{ post_processor: null, decoder: null },
    model: { type: "WordLevel", vocab, unk_token: "w0" },
  });
}
