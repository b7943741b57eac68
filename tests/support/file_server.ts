/** A server of files on loopback that sends parts of them, and misbehaves if it is asked to. */

import { closeSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

/** A request that came. */
export interface SeenRequest {
  /** Counts all requests from 0. */
  readonly number: number;
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: string;
  /** First byte that was asked for; null: no part was. */
  readonly begin: number | null;
  readonly end: number | null;
  readonly headers: IncomingMessage["headers"];
}

/** Faults of a server, instead of the bytes that were asked for. */
export type Fault =
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string }
  /** Sends as many bytes of the part, then breaks the connection. */
  | { readonly cutAfter: number }
  /** Sends as many bytes of the part, then nothing more. */
  | { readonly silentAfter: number }
  | { readonly etag: string }
  | { readonly totalBytes: number }
  | { readonly contentRange: string }
  /** Sends the part in slices, with waits between. */
  | { readonly sliceBytes: number; readonly waitMs: number }
  /** Sends the whole file, as servers do that know no parts. */
  | { readonly whole: true };

/** The files of a server, and how it serves them. */
export interface FileServerOptions {
  /** A folder, or the bytes of files by path. */
  readonly files: string | Readonly<Record<string, Uint8Array>>;
  /** Asked about every request. */
  readonly fault?: (request: SeenRequest) => Fault | null;
  /** Null: none is given. */
  readonly etag?: string | null;
}

/** A server on a free port. Dispose it (`await using`). */
export class FileServer implements AsyncDisposable {
  readonly requests: SeenRequest[] = [];
  readonly #server: Server;
  readonly #options: FileServerOptions;

  private constructor(options: FileServerOptions) {
    this.#options = options;
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(options: FileServerOptions): Promise<FileServer> {
    const server = new FileServer(options);
    await new Promise<void>((done) => server.#server.listen(0, "127.0.0.1", done));
    return server;
  }

  /** Returns the URL of a path. */
  url(path: string): string {
    return `${this.origin}/${path}`;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://x");
    const [, begin, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
    const seen: SeenRequest = {
      number: this.requests.length,
      method: request.method ?? "",
      path: decodeURIComponent(url.pathname),
      query: url.search,
      begin: begin === undefined ? null : Number(begin),
      end: end === undefined ? null : Number(end) + 1,
      headers: request.headers,
    };
    this.requests.push(seen);
    const fault = this.#options.fault?.(seen) ?? null;
    if (fault !== null && "status" in fault) {
      response.writeHead(fault.status, fault.headers).end(fault.body ?? "");
      return;
    }
    const file = this.#open(seen.path.slice(1));
    if (file === null) {
      response.writeHead(404).end("not found");
      return;
    }
    try {
      await send(response, {
        file,
        seen,
        fault,
        etag: this.#options.etag === undefined ? '"v1"' : this.#options.etag,
      });
    } finally {
      file.close();
    }
  }

  #open(path: string): ServedFile | null {
    const { files } = this.#options;
    if (typeof files !== "string") {
      const bytes = Object.hasOwn(files, path) ? files[path]! : null;
      if (bytes === null) return null;
      const read = (from: number, to: number) => bytes.subarray(from, to);
      return { bytes: bytes.length, read, close: () => {} };
    }
    try {
      const fd = openSync(join(files, path), "r");
      const read = (from: number, to: number) => {
        const bytes = new Uint8Array(to - from);
        readSync(fd, bytes, 0, bytes.length, from);
        return bytes;
      };
      return { bytes: fstatSync(fd).size, read, close: () => closeSync(fd) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
  }
}

interface ServedFile {
  readonly bytes: number;
  read(from: number, to: number): Uint8Array;
  close(): void;
}

const SLICE_BYTES = 1 << 20;

async function send(
  response: ServerResponse,
  { file, seen, fault, etag }: {
    file: ServedFile;
    seen: SeenRequest;
    fault: Exclude<Fault, { status: number }> | null;
    etag: string | null;
  },
): Promise<void> {
  const tag = fault !== null && "etag" in fault ? fault.etag : etag;
  const total = fault !== null && "totalBytes" in fault ? fault.totalBytes : file.bytes;
  const wanted = seen.headers["if-range"];
  const isWhole = seen.begin === null || (fault !== null && "whole" in fault) ||
    (wanted !== undefined && wanted !== tag);
  const begin = isWhole ? 0 : seen.begin!;
  if (begin >= file.bytes && !isWhole) {
    response.writeHead(416, { "content-range": `bytes */${file.bytes}` }).end();
    return;
  }
  const end = isWhole ? file.bytes : Math.min(seen.end!, file.bytes);
  const range = fault !== null && "contentRange" in fault
    ? fault.contentRange
    : `bytes ${begin}-${end - 1}/${total}`;
  response.writeHead(isWhole ? 200 : 206, {
    "content-length": end - begin,
    ...(tag === null ? {} : { "etag": tag }),
    ...(isWhole ? {} : { "content-range": range }),
  });
  const stop = fault === null
    ? Infinity
    : "cutAfter" in fault
    ? fault.cutAfter
    : "silentAfter" in fault
    ? fault.silentAfter
    : Infinity;
  const last = Math.min(end, begin + stop);
  const isSlow = fault !== null && "sliceBytes" in fault;
  const slice = isSlow ? fault.sliceBytes : SLICE_BYTES;
  for (let at = begin; at < last && !response.destroyed; at += slice) {
    const isTaken = response.write(file.read(at, Math.min(at + slice, last)));
    if (!isTaken) {
      await new Promise<void>((done) => response.once("drain", done).once("close", done));
    }
    if (isSlow) await new Promise((done) => setTimeout(done, fault.waitMs));
  }
  if (fault !== null && "silentAfter" in fault) return;
  if (last < end) {
    // Written bytes are sent before the connection goes.
    await new Promise((done) => setTimeout(done, 20));
    response.destroy();
  } else response.end();
}

/** Returns the files of a folder, by name, for servers of small files. */
export function filesOf(folder: string, names: readonly string[]): Record<string, Uint8Array> {
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name))]));
}
