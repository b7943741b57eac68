/** Reads the body of an answer with as little garbage as the runtime allows. */

/** Bytes that are read at a time. */
const BUFFER_BYTES = 256 << 10;

/**
 * Calls `onBytes` with all bytes of a body in order, until it returns false; the view is only valid during
 * the call.
 *
 * @throws what `onBytes` or the body throws; the body is let go then.
 */
export async function readBody(
  body: ReadableStream<Uint8Array<ArrayBuffer>> | null,
  onBytes: (bytes: Uint8Array) => boolean,
): Promise<void> {
  if (body === null) return;
  const reader = byobReader(body);
  if (reader === null) {
    // Leaving the loop lets the body go.
    for await (const bytes of body) if (!onBytes(bytes)) return;
    return;
  }
  try {
    let buffer = new ArrayBuffer(BUFFER_BYTES);
    for (;;) {
      const { done, value } = await reader.read(new Uint8Array(buffer));
      if (done) return;
      if (!onBytes(value)) {
        await reader.cancel();
        return;
      }
      buffer = value.buffer;
    }
  } catch (error) {
    // Who cancels a stream that has failed is told so once more.
    await reader.cancel(error).catch(() => undefined);
    throw error;
  }
}

/**
 * Returns a reader that fills a buffer of ours: half the processor time of one that brings a new one for
 * every few kilobytes, and no garbage. Null where the runtime has none for bodies.
 */
function byobReader(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
): ReadableStreamBYOBReader | null {
  try {
    return body.getReader({ mode: "byob" });
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}
