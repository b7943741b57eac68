/** Failures between here and a server, and whether asking again can help. Pure. */

/** Facts about a failure. */
export interface RemoteFault {
  /** For messages: without secrets. */
  readonly name: string;
  /** First byte that is missing; null if it is no matter of bytes. */
  readonly offsetBytes: number | null;
  /** The failure, and advice if that is not asking again: `the server answers 403 ...; ...`. */
  readonly rule: string;
  /** The same request may succeed later. */
  readonly isTemporary: boolean;
  /** The server said when, in milliseconds from now. */
  readonly waitMs?: number | undefined;
  /** The cause. */
  readonly cause?: unknown;
}

/** A file on a server could not be read. */
export class RemoteError extends Error {
  /** Name of the class. */
  override readonly name = "RemoteError";
  /** Facts about it. */
  readonly fault: RemoteFault;

  /** Puts the message together. */
  constructor(fault: RemoteFault) {
    const at = fault.offsetBytes === null ? "" : ` at byte ${fault.offsetBytes}`;
    super(
      `Cannot read ${JSON.stringify(fault.name)}${at}: ${fault.rule}`,
      fault.cause === undefined ? undefined : { cause: fault.cause },
    );
    this.fault = fault;
  }
}

const LATER: readonly number[] = [408, 425, 429, 500, 502, 503, 504];

/** Returns the failure that an answer of this status is. Not for 206. */
export function statusFault(
  place: { name: string; offsetBytes: number | null; hasToken: boolean },
  { status, statusText, headers }: Pick<Response, "status" | "statusText" | "headers">,
): RemoteError {
  const { name, offsetBytes, hasToken } = place;
  const said = `the server answers ${status}${statusText === "" ? "" : ` ${statusText}`}`;
  const isTemporary = LATER.includes(status);
  return new RemoteError({
    name,
    offsetBytes,
    rule: `${said}${isTemporary ? "" : `; ${adviceOn(status, hasToken)}`}`,
    isTemporary,
    waitMs: waitOf(headers.get("retry-after")),
  });
}

function adviceOn(status: number, hasToken: boolean): string {
  switch (status) {
    case 401:
    case 403:
      return hasToken
        ? "the token that was sent does not open it: accept the licence on the model's page, or use another token"
        : "it needs a token or a signed URL: for the Hugging Face Hub set HF_TOKEN and accept the licence on the model's page";
    case 404:
    case 410:
      return "check the address; what needs a token can answer so too (HF_TOKEN for the Hugging Face Hub)";
    case 416:
      return "the file ends before: it has changed, or it is not whole on the server; start again";
    case 200:
      return "it does not send parts of files, so a model cannot be streamed from it: download the file first";
    default:
      return "download the file first, and give its path";
  }
}

/** `Retry-After` in milliseconds: seconds, or a date. */
function waitOf(header: string | null): number | undefined {
  if (header === null) return undefined;
  const ms = /^\d+$/.test(header.trim())
    ? Number(header) * 1000
    : new Date(header).getTime() - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
