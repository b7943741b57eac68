/** Features that this browser lacks, in words, with advice. */

/** The smallest module with a SIMD instruction. */
const SIMD = Uint8Array.of(
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0],
  ...[65, 0, 253, 15, 253, 98, 11],
);

const UPDATE = "Update it, or use Chrome, Edge, Firefox or Safari of the last two years";

/** Returns why this page cannot convert here; null if it can. */
export function missing(): string | null {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) {
    return `This browser has no WebAssembly with SIMD, which the page computes with. ${UPDATE}; or use the ` +
      "program: npx quantsmith.";
  }
  if (!globalThis.isSecureContext) {
    return "This page came over http, and browsers give such pages neither storage nor threads. Open it " +
      "over https, or run: npx quantsmith ui.";
  }
  if (navigator.storage?.getDirectory === undefined || navigator.locks === undefined) {
    return `This browser has no storage for large files that a page can use. ${UPDATE}. Private windows of ` +
      "some browsers have none either.";
  }
  return null;
}

/** Returns why the page is slower here than it could be; null: it is not. */
export function slower(): string | null {
  if (globalThis.crossOriginIsolated) return null;
  return "This page has no shared memory here, so one thread does all the work and no graphics card is used. " +
    "Reload the page. If that does not help, the program is faster: npx quantsmith.";
}

/** Whether the browser can write to a file that a person picks. */
export function canPick(): boolean {
  return "showSaveFilePicker" in globalThis && globalThis.crossOriginIsolated;
}
