import { match, strictEqual } from "node:assert/strict";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { TempFolder } from "../support/header_fixtures.ts";

const DEMO = fileURLToPath(new URL("../../scripts/demo.ts", import.meta.url));

Deno.test("demo.ts converts, verifies and scores a small model, and leaves nothing behind", async () => {
  using folder = new TempFolder();
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", DEMO, "--size", "tiny", "--dir", folder.path],
  }).output();
  const text = new TextDecoder().decode(stdout);
  strictEqual(code, 0, text + new TextDecoder().decode(stderr));
  match(text, /closer to the source than plain rotation \+ rounding/);
  match(text, /^single_blocks\.\*\.linear2 +1 /m);
  strictEqual(readdirSync(folder.path).length, 0);
});
