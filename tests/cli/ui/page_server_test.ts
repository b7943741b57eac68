import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { servePage } from "../../../src/cli/ui/page_server.ts";
import { temporaryFolder } from "../../support/model_files.ts";

/** Sends a request as it stands: `fetch` would tidy the path and the host. */
function ask(
  url: string,
  { path = "/", host, method = "GET" }: { path?: string; host?: string; method?: string },
): Promise<{ status: number; headers: Record<string, unknown>; body: string }> {
  return new Promise((resolve, reject) => {
    const { port } = new URL(url);
    const headers = host === undefined ? {} : { host };
    const sent = request({ host: "127.0.0.1", port, path, method, headers }, (answer) => {
      let body = "";
      answer.on("data", (chunk) => body += chunk);
      answer.on(
        "end",
        () => resolve({ status: answer.statusCode!, headers: answer.headers, body }),
      );
    });
    sent.on("error", reject);
    sent.end();
  });
}

Deno.test("servePage() serves the files of the page with headers that isolate it, and nothing else", async () => {
  using folder = temporaryFolder();
  writeFileSync(join(folder.path, "index.html"), "the page");
  writeFileSync(join(folder.path, "engine.js"), "the engine");
  writeFileSync(join(folder.path, "service_worker.js"), "the service worker");
  const server = await servePage(folder.path, { port: 0 });
  try {
    const page = await ask(server.url, {});
    assert.equal(page.status, 200);
    assert.equal(page.body, "the page");
    assert.match(String(page.headers["content-type"]), /^text\/html/);
    assert.equal(page.headers["cross-origin-opener-policy"], "same-origin");
    assert.equal(page.headers["cross-origin-embedder-policy"], "require-corp");
    const engine = await ask(server.url, { path: "/engine.js?x" });
    assert.equal(engine.body, "the engine");
    assert.match(String(engine.headers["content-security-policy"]), /connect-src 'none'/);
    // It has to ask the host for the files.
    const worker = await ask(server.url, { path: "/service_worker.js" });
    assert.equal(worker.headers["content-security-policy"], undefined);
    for (const path of ["/none.js", "/../page_server.ts", "/%2e%2e/etc/passwd", "//etc/passwd"]) {
      assert.equal((await ask(server.url, { path })).status, 404, path);
    }
    assert.equal((await ask(server.url, { host: "attacker.example" })).status, 403);
    assert.equal((await ask(server.url, { method: "POST" })).status, 405);
    assert.equal((await ask(server.url, { method: "HEAD" })).body, "");
  } finally {
    await server.close();
  }
});

Deno.test("servePage() fails if the port is taken", async () => {
  using folder = temporaryFolder();
  const server = await servePage(folder.path, { port: 0 });
  try {
    const port = Number(new URL(server.url).port);
    await assert.rejects(servePage(folder.path, { port }), /EADDRINUSE|in use/);
  } finally {
    await server.close();
  }
});
