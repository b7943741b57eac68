/** The program run from a web server that sends every file as plain text, as hosts of raw files do. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { LEAST_PERMISSIONS } from "../../scripts/support/binaries.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const ROOT = new URL("../..", import.meta.url);

/** Serves the checkout; `base` is its URL. */
async function serveCheckout(): Promise<{ base: string } & AsyncDisposable> {
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://host/").pathname.slice(1);
    try {
      const body = readFileSync(new URL(path, ROOT));
      response.writeHead(200, { "content-type": "text/plain; charset=utf-8" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return {
    base: `http://127.0.0.1:${address.port}`,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

async function runFrom(base: string, folder: string, args: readonly string[]) {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-prompt",
      ...LEAST_PERMISSIONS,
      `--import-map=${base}/deno.json`,
      `${base}/main.ts`,
      ...args,
    ],
    // Away from the checkout's own deno.json.
    cwd: folder,
    env: { NO_COLOR: "1" },
  }).output();
  return { code, stderr: new TextDecoder().decode(stderr) };
}

Deno.test("main.ts converts and verifies when run from a URL with the least permissions", async () => {
  await using host = await serveCheckout();
  using folder = temporaryFolder();
  const weights = Float32Array.from({ length: 256 * 512 }, (_, i) => Math.fround((i % 251) / 251));
  writeModel(join(folder.path, "m.safetensors"), [
    tensorOf("blocks.0.lin.weight", "F32", [256, 512], weights),
  ]);
  const args = ["m.safetensors", "o.safetensors", "--verify", "--workers", "2"];
  const { code, stderr } = await runFrom(host.base, folder.path, args);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /loads in stock ComfyUI/);
  const output = readModel(join(folder.path, "o.safetensors"));
  assert.equal(output.get("blocks.0.lin.weight")!.dtype, "I8");
});

Deno.test("docs/usage.md states the least permissions", () => {
  const usage = readFileSync(new URL("docs/usage.md", ROOT), "utf8").replaceAll(/\s+/g, " ");
  assert.ok(usage.includes(LEAST_PERMISSIONS.join(" ")));
});
