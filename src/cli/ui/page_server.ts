/**
 * Serves the page that converts in a browser, to this machine only: static files, with the headers that a
 * page needs for shared memory, and a policy that lets it connect to nothing.
 */

import { createServer, type Server } from "node:http";
import { readdirSync, readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { pageHeaders } from "./page_headers.ts";

/** Only this machine. */
const HOST = "127.0.0.1";

const TYPES: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
};

/** A server at work. */
export interface PageServer {
  /** Address of the page. */
  readonly url: string;
  close(): Promise<void>;
}

/**
 * Serves the files of `folder`.
 *
 * @param folder what `deno task build:web` built.
 * @param options `port`: 0 takes a free one; `headersOf`: of each file, instead of those of `pageHeaders`.
 * @throws Error if the folder cannot be read, or the port is taken.
 */
export async function servePage(
  folder: string,
  { port, headersOf = pageHeaders }: {
    readonly port: number;
    readonly headersOf?: (name: string) => Readonly<Record<string, string>>;
  },
): Promise<PageServer> {
  // Only what is there now has an address: no path of a request reaches the disk.
  const names = new Map(readdirSync(folder).map((name) => [`/${name}`, name]));
  names.set("/", "index.html");
  const server = createServer((request, response) => {
    const { method = "", url = "", headers: { host = "" } } = request;
    const name = names.get(new URL(url, `http://${HOST}`).pathname);
    const status = !isOwn(host)
      ? 403 // another site that has its name point here
      : method !== "GET" && method !== "HEAD"
      ? 405
      : name === undefined
      ? 404
      : 200;
    if (status !== 200) {
      response.writeHead(status, { "Content-Type": TYPES[".txt"] }).end(`${status}\n`);
      return;
    }
    const type = TYPES[extname(name!)] ?? "application/octet-stream";
    response.writeHead(200, { ...headersOf(name!), "Content-Type": type });
    response.end(method === "HEAD" ? undefined : readFileSync(join(folder, name!)));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, HOST, resolve);
  });
  const { port: taken } = server.address() as AddressInfo;
  return { url: `http://${HOST}:${taken}/`, close: () => closed(server) };
}

function isOwn(host: string): boolean {
  return /^(127\.0\.0\.1|localhost)(:\d+)?$/.test(host);
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
