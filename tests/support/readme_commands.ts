/** The commands of documents. */

/**
 * Returns the commands of a Markdown text, each once: the lines of its `sh` blocks, and inline code that begins
 * with one of `starts`.
 */
export function commandsIn(markdown: string, starts: readonly string[]): string[] {
  const blocks = [...markdown.matchAll(/^ *```sh\n(.*?)^ *```/gms)]
    .flatMap(([, body]) => body!.split("\n").map((line) => line.trim()))
    .filter((line) => line !== "");
  const inline = [...markdown.replaceAll(/^ *```.*?^ *```/gms, "").matchAll(/`([^`\n]+)`/g)]
    .map(([, code]) => code!)
    .filter((code) => starts.some((start) => code.startsWith(start)));
  return [...new Set([...blocks, ...inline])];
}

/** Returns the words of a command line in which only double quotes quote, as in cmd.exe. */
export function wordsOf(command: string): string[] {
  return [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
}

/** Returns what a shell other than a POSIX one would not take of a command; empty if all take it. */
export function shellTroubles(command: string): string[] {
  const plain = command.replaceAll(/"[^"]*"/g, '""');
  return [
    ...(plain.includes("'") ? ["single quotes quote in POSIX shells only"] : []),
    ...(/\\$/.test(plain) ? ["a backslash at the end continues in POSIX shells only"] : []),
    ...(/(^|\s)#/.test(plain) ? ["cmd.exe has no comments behind commands"] : []),
    ...(/[;&|<>`]|\$[\w(]/.test(plain) ? ["operators differ between shells"] : []),
    ...(/\w+=\S+ \w/.test(plain.split(" ")[0]!) ? ["variables before a command"] : []),
  ];
}
