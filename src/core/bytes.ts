/** Numbers as the bytes that they are in memory. */

/** Returns the bytes of a view, over the same buffer. */
export function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
