/**
 * Text as a line of a terminal or a log shows it. Names of tensors, metadata, and the words of servers
 * come from strangers: control characters in them could move the cursor, retitle the window or forge
 * lines, addresses could hold secrets, and a name could fill the screen.
 */

/** Most characters of a line for people. */
const MAX_LINE = 4000;

/** Characters that a terminal obeys (C0, DEL, C1), and those that reorder what is beside them. */
const CONTROL = /[\p{Cc}\u2028\u2029\u202A-\u202E\u2066-\u2069]/gu;

/** Returns `text` as one line: control characters as `\u001b`, secrets of addresses left out, bounded. */
export function shownLine(text: string): string {
  // Cut before anything looks at all of it; what the replacements make shorter or longer is little.
  const start = text.slice(0, MAX_LINE);
  const rest = text.length - start.length;
  const shown = escapeControls(withSingleBackslashes(withoutSecrets(start)));
  return rest === 0 ? shown : `${shown}... (${rest} more characters)`;
}

/** Returns one line of results for people: as {@link shownLine} does, with its backslashes as they are. */
export function resultLine(text: string): string {
  const start = text.slice(0, MAX_LINE);
  const rest = text.length - start.length;
  const shown = escapeControls(withoutSecrets(start));
  return rest === 0 ? shown : `${shown}... (${rest} more characters)`;
}

/**
 * Returns a message in which names between quotes have single backslashes: messages quote names as JSON does,
 * which doubles the backslashes of a Windows path or a pattern.
 */
export function withSingleBackslashes(message: string): string {
  return message.replaceAll(/"(?:[^"\\]|\\.)*"/g, (quoted) => quoted.replaceAll("\\\\", "\\"));
}

/** Returns text with control characters spelled as in JSON, which stays what it is; tabs stay. */
export function escapeControls(text: string): string {
  return text.replaceAll(CONTROL, (character) => {
    if (character === "\t") return character;
    return `\\u${character.codePointAt(0)!.toString(16).padStart(4, "0")}`;
  });
}

/** Returns text in which addresses have neither a user, a password nor a query. */
function withoutSecrets(text: string): string {
  return text
    .replaceAll(/\b([a-z][a-z+.-]*:\/\/)[^\s/@"']*@/gi, "$1")
    .replaceAll(/\b(https?:\/\/[^\s?"'<>]*)\?[^\s"'<>)]*/gi, "$1?...")
    .replaceAll(/\b(Bearer|Basic) [\w+/=.~-]{12,}/gi, "$1 ...")
    .replaceAll(/\bhf_[A-Za-z0-9]{8,}/g, "hf_...");
}
