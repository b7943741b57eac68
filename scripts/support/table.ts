/** Tables for a terminal. */

/**
 * Returns lines of columns two spaces apart, the first column to the left, the others to the right.
 * The first row is a heading and is underlined.
 */
export function renderTable(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, index) => widths[index] = Math.max(widths[index] ?? 0, cell.length));
  }
  const lines = rows.map((row) =>
    row.map((cell, index) => index === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[index]!))
      .join("  ").trimEnd()
  );
  const rule = "-".repeat(widths.reduce((sum, width) => sum + width + 2, -2));
  return [lines[0] ?? "", rule, ...lines.slice(1)].join("\n");
}

/** Returns the same rows as a Markdown table. */
export function renderMarkdown(rows: readonly (readonly string[])[]): string {
  const [heading = [], ...body] = rows;
  const rule = heading.map((_, index) => index === 0 ? "---" : "---:");
  return [heading, rule, ...body].map((row) => `| ${row.join(" | ")} |`).join("\n");
}
