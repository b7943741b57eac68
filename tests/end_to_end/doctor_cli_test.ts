import assert from "node:assert/strict";
import { runCli } from "../support/run_cli.ts";

Deno.test("quantsmith doctor --json exits with 0 and reports nothing on stderr", async () => {
  const { code, stdout, stderr } = await runCli(["doctor", "--json"]);
  assert.equal(stderr, "");
  assert.equal(code, 0);
  const found = JSON.parse(stdout);
  assert.equal(found.runtime.name, "Deno");
  assert(found.memory.free_bytes > 0 && found.memory.free_bytes <= found.memory.total_bytes);
  assert(found.wasm.simd && found.wasm.chunk_ms > 0);
  assert(found.advice.length > 0);
});

Deno.test("quantsmith doctor looks at no file", async () => {
  const { code, stderr } = await runCli(["doctor", "model.safetensors"]);
  assert.equal(code, 2);
  assert.match(
    stderr,
    /^error: Unexpected argument "model.safetensors": `quantsmith doctor` takes no words/,
  );
});
