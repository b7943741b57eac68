/** Text broken at words. Pure. */

/** A space between a number and its unit, where no line is broken. */
const UNIT_SPACE = /(?<=\d) (?=(?:%|dB\b|[kMGTP]?B\b|ms\b|s\b))/g;

/**
 * Returns `text` in lines of at most `width` characters, broken at spaces, but not between a number and its
 * unit; a longer word stays whole.
 */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.replaceAll(UNIT_SPACE, "\u00a0").split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (longer.length > width && line !== "") {
      lines.push(line);
      line = word;
    } else {
      line = longer;
    }
  }
  lines.push(line);
  return lines.map((each) => each.replaceAll("\u00a0", " "));
}
