/**
 * One range of a file on a server, with every promise of the answer checked: that it is the range that was
 * asked for, of a file of the same size and version as before, neither packed nor shorter nor longer.
 */

import { readBody } from "./body_reader.ts";
import type { RemoteFile } from "./location.ts";
import { DEFAULT_PATIENCE, persist, type PersistOptions } from "./patience.ts";
import { RedirectError, type Redirects } from "./redirects.ts";
import { RemoteError, statusFault } from "./remote_error.ts";

/** Marks by which two answers are known to be of one file. */
export interface Version {
  /** Size of the whole file. */
  readonly bytes: number;
  readonly etag: string | null;
  readonly lastModified: string | null;
  /** Whether the server sends parts of it; otherwise every request reads it from its beginning. */
  readonly hasParts: boolean;
}

/** Bytes `begin` to `end` of a file. */
export interface ByteRange {
  readonly begin: number;
  readonly end: number;
}

/** Parameters of a range request. */
export interface RangeOptions extends PersistOptions {
  /** Facts from earlier answers; null: this is the first request. */
  readonly version: Version | null;
  readonly redirects: Redirects;
}

/**
 * Reads bytes `begin` to `end` and returns the file's version. Broken connections are taken up at the
 * byte they broke at.
 *
 * @param onBytes gets all bytes in order, each once; the view is only valid during the call.
 * @param options.version null: the range may reach beyond the end of the file.
 * @throws RemoteError; what `onBytes` throws; the reason of `signal`.
 */
export async function readRemoteRange(
  file: RemoteFile,
  range: ByteRange,
  onBytes: (bytes: Uint8Array) => void,
  options: RangeOptions,
): Promise<Version> {
  let { version } = options;
  let at = range.begin;
  const attempt = async (): Promise<Version> => {
    const end = version === null ? range.end : Math.min(range.end, version.bytes);
    if (version !== null && at >= end) return version;
    await readOnce(file, { begin: at, end }, {
      ...options,
      version,
      onVersion: (found) => version = found,
      onBytes: (bytes) => {
        onBytes(bytes);
        at += bytes.length;
      },
    });
    return version!;
  };
  return await persist(attempt, options, () => at);
}

interface Once extends RangeOptions {
  readonly onVersion: (version: Version) => void;
  readonly onBytes: (bytes: Uint8Array) => void;
}

async function readOnce(file: RemoteFile, range: ByteRange, once: Once): Promise<void> {
  const { version, redirects, signal, onVersion, onBytes } = once;
  const { begin } = range;
  const { silenceMs } = once.patience ?? DEFAULT_PATIENCE;
  using silence = new Silence(silenceMs);
  let at = begin;
  let sinkFailed = false; // what the receiver throws is no fault of the connection: a full disk
  const fault = (rule: string, isTemporary: boolean, cause?: unknown) =>
    new RemoteError({ name: file.name, offsetBytes: at, rule, isTemporary, cause });
  try {
    const signals = signal === undefined ? [silence.signal] : [silence.signal, signal];
    const response = await redirects.fetch(
      file,
      requestHeaders(range, version),
      AbortSignal.any(signals),
    );
    const found = await checkAnswer(file, response, { range, version, redirects });
    onVersion(found);
    const last = Math.min(range.end, found.bytes);
    let before = found.hasParts ? 0 : begin;
    await readBody(response.body, found.hasParts ? begin : 0, (sent) => {
      silence.end();
      const skipped = Math.min(before, sent.length);
      before -= skipped;
      const rest = sent.subarray(skipped);
      const bytes = found.hasParts ? rest : rest.subarray(0, last - at);
      if (at + bytes.length > last) {
        throw fault(
          `the server sends more than the ${last - begin} bytes that were asked for`,
          false,
        );
      }
      sinkFailed = true;
      onBytes(bytes);
      sinkFailed = false;
      at += bytes.length;
      return found.hasParts || at < last;
    });
    if (at < last) throw fault(`the connection ends ${last - at} bytes early`, true);
  } catch (error) {
    if (error instanceof RemoteError || sinkFailed || signal?.aborted) throw error;
    if (error instanceof RedirectError) throw fault(error.message, false);
    if (silence.signal.aborted) {
      throw fault(`the server has been silent for ${silenceMs / 1000} s`, true);
    }
    throw connectionFault(error, { name: file.name, offsetBytes: at });
  }
}

/** Aborts if nothing is heard for a while. Looks now and then: a timer per block of bytes would cost. */
class Silence implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: ReturnType<typeof setInterval>;
  #heard = performance.now();

  constructor(ms: number) {
    this.#timer = setInterval(() => {
      if (performance.now() - this.#heard > ms) this.#controller.abort();
    }, ms / 8);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Something was heard. */
  end(): void {
    this.#heard = performance.now();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

function requestHeaders(
  { begin, end }: ByteRange,
  version: Version | null,
): Record<string, string> {
  // Offsets are those of the file, not of its packed form.
  const plain = { "accept-encoding": "identity" };
  if (version?.hasParts === false) return plain;
  // Only a strong ETag or a date may stand in If-Range (RFC 9110, 13.1.5).
  const strong = version?.etag?.startsWith("W/") === false ? version.etag : null;
  const validator = strong ?? version?.lastModified ?? null;
  return {
    ...plain,
    "range": `bytes=${begin}-${end - 1}`,
    ...(validator === null ? {} : { "if-range": validator }),
  };
}

/** Addresses that a server redirected to expire with these. */
const EXPIRED: readonly number[] = [401, 403, 404, 410];

/** Returns the version that an answer is of. The body of an answer that is refused is let go. */
async function checkAnswer(
  file: RemoteFile,
  response: Response,
  { range, version, redirects }: {
    range: ByteRange;
    version: Version | null;
    redirects: Redirects;
  },
): Promise<Version> {
  const found = versionOf(file, response, { range, version });
  if (!(found instanceof RemoteError)) return found;
  await response.body?.cancel();
  // An address that worked before: the first server knows the new one.
  const isExpired = version !== null && EXPIRED.includes(response.status) && redirects.forget(file);
  throw isExpired ? new RemoteError({ ...found.fault, isTemporary: true }) : found;
}

function versionOf(
  file: RemoteFile,
  response: Response,
  { range: { begin, end }, version }: { range: ByteRange; version: Version | null },
): Version | RemoteError {
  const { status, headers } = response;
  const place = { name: file.name, offsetBytes: begin };
  const refuse = (rule: string) => new RemoteError({ ...place, rule, isTemporary: false });
  const etag = headers.get("etag"), lastModified = headers.get("last-modified");
  if (status === 416 && version === null && headers.get("content-range") === "bytes */0") {
    return { bytes: 0, etag, lastModified, hasParts: true };
  }
  if (status === 200 && version !== null && isOther(version, { etag, lastModified })) {
    return refuse(CHANGED);
  }
  const encoding = headers.get("content-encoding") ?? "identity";
  const length = headers.get("content-length");
  if (status === 200 && length !== null && encoding === "identity") {
    const bytes = Number(length);
    if (version === null && begin === 0) return { bytes, etag, lastModified, hasParts: false };
    if (version?.hasParts === false) {
      return bytes === version.bytes
        ? version
        : refuse(`${CHANGED}; it had ${version.bytes} bytes, now ${bytes}`);
    }
  }
  if (status !== 206) {
    const hasToken = file.headers["authorization"] !== undefined;
    return statusFault({ ...place, hasToken }, response);
  }
  if (encoding !== "identity") {
    return refuse(`the server packs what it sends (${encoding}), unasked; download the file first`);
  }
  const said = headers.get("content-range") ?? "none";
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(said) ?? [];
  const bytes = Number(total);
  if (total === undefined || !Number.isSafeInteger(bytes)) {
    return refuse(`the answer has no usable Content-Range (${said}); download the file first`);
  }
  if (version !== null && bytes !== version.bytes) {
    return refuse(`${CHANGED}; it had ${version.bytes} bytes, now ${bytes}`);
  }
  if (version !== null && isOther(version, { etag, lastModified })) return refuse(CHANGED);
  const expectedLast = Math.min(end, bytes) - 1;
  if (Number(first) !== begin || Number(last) !== expectedLast) {
    return refuse(
      `bytes ${begin} to ${expectedLast} were asked for, the server sends ${first} to ${last}; ` +
        "download the file first",
    );
  }
  return version ?? { bytes, etag, lastModified, hasParts: true };
}

const CHANGED = "the file on the server has changed while it was read: start again";

function isOther(
  version: Version,
  { etag, lastModified }: { etag: string | null; lastModified: string | null },
): boolean {
  if (version.etag !== null && etag !== null) return version.etag !== etag;
  return version.lastModified !== null && lastModified !== null &&
    version.lastModified !== lastModified;
}

/** Returns the failure that an error of `fetch` is. */
export function connectionFault(
  error: unknown,
  place: { name: string; offsetBytes: number | null },
): RemoteError {
  const why = reasonOf(error);
  const isForbidden = error instanceof Error && error.name === "NotCapable";
  return new RemoteError({
    ...place,
    rule: isForbidden
      ? `${why}; the program may not use the network: run it with --allow-net`
      : `the connection failed (${why})`,
    isTemporary: !isForbidden,
    cause: error,
  });
}

/** The innermost message: fetch wraps what happened. URLs in it may hold secrets. */
function reasonOf(error: unknown): string {
  let inner = error;
  while (inner instanceof Error && inner.cause instanceof Error) inner = inner.cause;
  const text = inner instanceof Error ? inner.message : String(inner);
  return text.replaceAll(/\w+:\/\/[^\s)"']+/g, "URL")
    .replace(/^error sending request for url \(URL\): /, "");
}
