/** Texts that go through a block together. Pure. */

/** Tokens that go through a block together, unless one text has more. */
const BAND_TOKENS = 512;

/** One text of a run. */
export interface TextPlace {
  /** Of its first token among those of all texts. */
  readonly start: number;
  readonly length: number;
}

/** Neighbouring texts. */
export interface TextBand {
  /** Of its first token among those of all texts. */
  readonly start: number;
  readonly tokens: number;
  readonly texts: readonly TextPlace[];
}

/** Returns whole texts in bands of at most `most` tokens, or of one longer text. */
export function textBands(lengths: readonly number[], most = BAND_TOKENS): TextBand[] {
  const bands: { start: number; tokens: number; texts: TextPlace[] }[] = [];
  let start = 0;
  for (const length of lengths) {
    let band = bands.at(-1);
    if (band === undefined || band.tokens + length > most) {
      bands.push(band = { start, tokens: 0, texts: [] });
    }
    band.texts.push({ start, length });
    band.tokens += length;
    start += length;
  }
  return bands;
}
