/** Turns the base64 text of a kernel module (`scripts/build_asm.ts` writes it) into a compiled one. */

/** Returns the module whose bytes `base64` holds (white space is ignored). Costs some milliseconds. */
export function compileModule(base64: string): WebAssembly.Module {
  return new WebAssembly.Module(bytesOfBase64(base64));
}

/** Decodes base64. `Uint8Array.fromBase64` is faster, but Node has it from version 25 on only. */
export function bytesOfBase64(base64: string): Uint8Array<ArrayBuffer> {
  const { fromBase64 } = Uint8Array as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> };
  if (fromBase64 !== undefined) return fromBase64.call(Uint8Array, base64);
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}
