/**
 * A server of one file's parts on loopback, for benchmarks: it shares the cores with what is measured, so it
 * must cost little. Bun hands files to the kernel (sendfile), which takes a fraction of what `node:http` in
 * Deno does. Tests use `tests/support/file_server.ts`, which can misbehave.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { findBun } from "./find_bun.ts";

/** The part of Bun's API that is used here: https://bun.com/docs/api/http. */
declare const Bun: {
  readonly argv: readonly string[];
  file(path: string): Blob;
  serve(options: {
    hostname: string;
    port: number;
    fetch(request: Request): Response;
  }): { readonly port: number };
};

/** Serves until it is disposed. */
export class RangeServer implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #port: number;

  private constructor(process: ChildProcess, port: number) {
    this.#process = process;
    this.#port = port;
  }

  /** @throws Error if there is no Bun. */
  static async start(file: string): Promise<RangeServer> {
    const bun = findBun();
    if (bun === null) throw new Error("Cannot serve files: no Bun on the PATH or from npm");
    const server = spawn(bun, [fileURLToPath(import.meta.url), file], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = await once(server.stdout, "data");
    return new RangeServer(server, Number(String(line)));
  }

  /** Returns the file's URL with a name of choice. */
  url(name: string): string {
    return `http://127.0.0.1:${this.#port}/${name}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill();
    await once(this.#process, "exit");
  }
}

function serve(path: string): void {
  const file = Bun.file(path);
  const { port } = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch({ headers }) {
      const range = /^bytes=(\d+)-(\d+)$/.exec(headers.get("range") ?? "");
      if (range === null) return new Response("only parts are served", { status: 400 });
      const begin = Number(range[1]), end = Math.min(Number(range[2]) + 1, file.size);
      return new Response(file.slice(begin, end), {
        status: 206,
        headers: { "content-range": `bytes ${begin}-${end - 1}/${file.size}`, "etag": '"v1"' },
      });
    },
  });
  console.log(port);
}

if ("Bun" in globalThis) serve(Bun.argv[2]!);
