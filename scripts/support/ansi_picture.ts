/** Text with SGR sequences, as `tmux capture-pane -e` prints it, as an SVG picture of a terminal. Pure. */

/** How a picture is drawn. */
export interface PictureOptions {
  /** Width in characters. */
  readonly columns: number;
  readonly theme: "light" | "dark";
}

const CELL = { width: 8.4, height: 19, size: 14 };
const MARGIN = 16;

/** Background, text, dim text; then the eight colours of a terminal. */
const THEMES = {
  dark: {
    page: "#16181d",
    text: "#d8dbe0",
    dim: "#8b929c",
    colors: [
      "#4a4f57",
      "#f2777a",
      "#8fc77a",
      "#e5c07b",
      "#6fa8dc",
      "#c792ea",
      "#62c1c7",
      "#d8dbe0",
    ],
  },
  light: {
    page: "#ffffff",
    text: "#24292f",
    dim: "#6e7781",
    colors: [
      "#24292f",
      "#c3232e",
      "#1a7f37",
      "#8a6100",
      "#0a58ca",
      "#7a3eb1",
      "#0b7285",
      "#57606a",
    ],
  },
} as const;

interface Style {
  bold: boolean;
  dim: boolean;
  color: number | null;
}

/** Returns the picture as SVG text. */
export function ansiPicture(text: string, { columns, theme }: PictureOptions): string {
  const lines = text.replace(/\n+$/, "").split("\n");
  const { page, text: ink } = THEMES[theme];
  const width = Math.ceil(columns * CELL.width + 2 * MARGIN);
  const height = lines.length * CELL.height + 2 * MARGIN;
  const style: Style = { bold: false, dim: false, color: null };
  const rows = lines.map((line, row) => {
    const y = MARGIN + (row + 0.75) * CELL.height;
    return `<text y="${y}">${spans(line, style, theme)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<rect width="100%" height="100%" rx="8" fill="${page}"/>
<g font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="${CELL.size}" fill="${ink}" xml:space="preserve">
${rows.join("\n")}
</g>
</svg>
`;
}

/** Each run of one style is placed by its column, so that fonts of another width keep the columns. */
function spans(line: string, style: Style, theme: "light" | "dark"): string {
  let column = 0;
  let out = "";
  // deno-lint-ignore no-control-regex
  for (const part of line.split(/(\u001b\[[\d;]*m)/)) {
    if (part.startsWith("\u001b")) {
      apply(style, part);
    } else if (part !== "") {
      const characters = [...part];
      const x = MARGIN + column * CELL.width;
      const length = characters.length * CELL.width;
      out += `<tspan x="${round(x)}" textLength="${round(length)}"${attributes(style, theme)}>` +
        `${escaped(part)}</tspan>`;
      column += characters.length;
    }
  }
  return out;
}

function attributes({ bold, dim, color }: Style, theme: "light" | "dark"): string {
  const { dim: quiet, colors } = THEMES[theme];
  const fill = color !== null ? colors[color] : dim ? quiet : null;
  return (bold ? ' font-weight="bold"' : "") + (fill === null ? "" : ` fill="${fill}"`);
}

function apply(style: Style, sequence: string): void {
  for (const code of sequence.slice(2, -1).split(";").map(Number)) {
    if (code === 0) Object.assign(style, { bold: false, dim: false, color: null });
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 22) Object.assign(style, { bold: false, dim: false });
    else if (code >= 30 && code <= 37) style.color = code - 30;
    else if (code === 39) style.color = null;
  }
}

function round(value: number): string {
  return String(Number(value.toFixed(1)));
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll(" ", "\u00a0");
}
