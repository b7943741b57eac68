/** Names files that are not safetensors by how they begin, so that an error can say what to do. */

/** Kind of a file that is not safetensors. */
export interface ForeignFormat {
  /** With its article: `a GGUF file`. */
  readonly what: string;
  readonly hint: string;
}

const CONVERT = "save the model as .safetensors first";
const NO_MODEL = "it holds no model: give the .safetensors file";
const FAILED_DOWNLOAD = "the download saved an error or login page: download the file again";

const MAGICS: readonly { readonly magic: string; readonly format: ForeignFormat }[] = [
  {
    magic: "PK\x03\x04",
    format: {
      what: "a zip archive, most likely a PyTorch pickle (.ckpt, .pt, .bin)",
      hint: CONVERT,
    },
  },
  ...[2, 3, 4, 5].map((protocol) => ({
    magic: `\x80${String.fromCharCode(protocol)}`,
    format: { what: "a Python pickle (.ckpt, .pt, .bin)", hint: CONVERT },
  })),
  {
    magic: "GGUF",
    format: {
      what: "a GGUF file",
      hint: "GGUF weights are already quantized: start from the .safetensors they were made from",
    },
  },
  { magic: "\x93NUMPY", format: { what: "a NumPy array", hint: CONVERT } },
  { magic: "\x89HDF", format: { what: "an HDF5 file", hint: CONVERT } },
  { magic: "\x1f\x8b", format: { what: "a gzip archive", hint: "unpack it first" } },
  { magic: "7z\xbc\xaf", format: { what: "a 7z archive", hint: "unpack it first" } },
  { magic: "Rar!\x1a\x07", format: { what: "a RAR archive", hint: "unpack it first" } },
  { magic: "\xfd7zXZ\x00", format: { what: "an xz archive", hint: "unpack it first" } },
  { magic: "\x28\xb5\x2f\xfd", format: { what: "a zstd archive", hint: "unpack it first" } },
  { magic: "BZh9", format: { what: "a bzip2 archive", hint: "unpack it first" } },
  // A picture that ComfyUI saved holds a workflow; a model page's preview has the model's name.
  { magic: "\x89PNG", format: { what: "a PNG picture", hint: NO_MODEL } },
  { magic: "\xff\xd8\xff", format: { what: "a JPEG picture", hint: NO_MODEL } },
  { magic: "GIF8", format: { what: "a GIF picture", hint: NO_MODEL } },
  { magic: "RIFF", format: { what: "a RIFF file (WebP, WAV, AVI)", hint: NO_MODEL } },
  { magic: "%PDF", format: { what: "a PDF document", hint: NO_MODEL } },
  { magic: "\x7fELF", format: { what: "a program (ELF)", hint: NO_MODEL } },
  { magic: "MZ\x90\x00", format: { what: "a program (Windows)", hint: NO_MODEL } },
  { magic: "SQLite format 3", format: { what: "an SQLite database", hint: NO_MODEL } },
  {
    magic: "version https://git-lfs",
    format: {
      what: "a git-lfs pointer, not the file it points to",
      hint: "run `git lfs pull`, or download the file itself",
    },
  },
  { magic: "<!doctype", format: { what: "a web page (HTML)", hint: FAILED_DOWNLOAD } },
  { magic: "<html", format: { what: "a web page (HTML)", hint: FAILED_DOWNLOAD } },
  { magic: "<?xml", format: { what: "an XML document", hint: FAILED_DOWNLOAD } },
];

/** How many bytes at the start of a text file are quoted. */
const QUOTED_BYTES = 40;

/**
 * Returns what a file is that begins with `start`, or null if nothing is recognised. Only for files
 * that are not safetensors: a header length can happen to spell a magic.
 *
 * @param start the first bytes of the file; 64 are enough.
 */
export function identifyForeign(start: Uint8Array): ForeignFormat | null {
  const text = String.fromCharCode(...start.subarray(0, QUOTED_BYTES));
  // HTML may open in any case and after blank lines; a binary magic starts at the first byte.
  const folded = text.trimStart().toLowerCase();
  for (const { magic, format } of MAGICS) {
    if (text.startsWith(magic) || (magic.startsWith("<") && folded.startsWith(magic))) {
      return format;
    }
  }
  if (text.slice(4, 8) === "ftyp") return { what: "a video (MP4) or AVIF picture", hint: NO_MODEL };
  if (!/^[\t\n\r\x20-\x7e]{2,}$/.test(text)) return null;
  if (folded.startsWith("{")) {
    return {
      what: "a JSON text",
      hint: "for a model in shards, give its folder or its *.safetensors.index.json",
    };
  }
  return { what: `a text that begins ${JSON.stringify(text)}`, hint: FAILED_DOWNLOAD };
}
