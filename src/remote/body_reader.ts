/** Reads the body of an answer with as little garbage as the runtime allows. */

/** Bytes that are read at a time. */
const BUFFER_BYTES = 256 << 10;

/**
 * Bytes of a word. V8 copies into shared memory word by word if source and target begin at the same byte
 * of a word, else byte by byte, which takes several times as long.
 */
const WORD_BYTES = 8;

/** Buffers that no body is read to now. */
const spare: ArrayBuffer[] = [];

/** Bytes in buffers of the runtime, read and dropped, after which it shall look for garbage. */
const GARBAGE_BYTES = 16 << 20;

let garbageBytes = 0;

/**
 * Calls `onBytes` with all bytes of a body in order, until it returns false; the view is only valid during
 * the call.
 *
 * @param begin where the body's first byte lies in its file, in bytes: copies go to such places, modulo 8.
 * @throws what `onBytes` or the body throws; the body is let go then.
 */
export async function readBody(
  body: ReadableStream<Uint8Array<ArrayBuffer>> | null,
  begin: number,
  onBytes: (bytes: Uint8Array) => boolean,
): Promise<void> {
  if (body === null) return;
  const reader = byobReader(body);
  if (reader === null) {
    // Leaving the loop lets the body go.
    for await (const bytes of body) {
      countGarbage(bytes.length);
      if (!onBytes(bytes)) return;
    }
    return;
  }
  try {
    let buffer = spare.pop() ?? new ArrayBuffer(BUFFER_BYTES + WORD_BYTES);
    for (let at = begin;;) {
      const view = new Uint8Array(buffer, at % WORD_BYTES, BUFFER_BYTES);
      const { done, value } = await reader.read(view);
      if (value !== undefined) buffer = value.buffer;
      const goesOn = !done && onBytes(value);
      if (!goesOn && buffer.byteLength > 0) spare.push(buffer); // one of a body that is let go is detached
      if (done) return;
      if (!goesOn) return await reader.cancel();
      at += value.length;
    }
  } catch (error) {
    // Cancelling a stream that has failed reports the failure once more.
    await reader.cancel(error).catch(() => undefined);
    throw error;
  }
}

/**
 * Returns a reader that fills a buffer of ours: half the processor time of one that brings a new one for
 * every few kilobytes, and no garbage. Null if the runtime has none for bodies.
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

/**
 * Bun brings a new buffer for every part of a body, and lets hundreds of megabytes of them pile up before it
 * looks: it is asked to (100 MB less, 5 to 10 % more time).
 */
function countGarbage(bytes: number): void {
  garbageBytes += bytes;
  if (garbageBytes < GARBAGE_BYTES) return;
  garbageBytes = 0;
  (globalThis as { Bun?: { gc(now: boolean): void } }).Bun?.gc(true);
}
