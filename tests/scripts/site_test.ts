import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { buildSite } from "../../scripts/support/site.ts";
import { Stage } from "../../scripts/support/stage.ts";
import { temporaryFolder } from "../support/model_files.ts";

Deno.test("buildSite() bundles a site that has nothing of Node and names no server", async () => {
  using folder = temporaryFolder();
  using stage = new Stage();
  await buildSite(stage, folder.path);
  const names = readdirSync(folder.path);
  for (
    const name of [
      "index.html",
      "style.css",
      "page.js",
      "engine.js",
      "worker.js",
      "disk.js",
      "reader.js",
    ]
  ) {
    assert.ok(names.includes(name), name);
  }
  for (const name of names.filter((each) => each.endsWith(".js"))) {
    const script = readFileSync(join(folder.path, name), "utf8");
    assert.doesNotMatch(script, /^import .*"node:/m, name);
    assert.doesNotMatch(script, /\bimport\("node:/, name);
  }
  const page = readFileSync(join(folder.path, "index.html"), "utf8");
  assert.doesNotMatch(page, /(src|href)="(https?:)?\/\//);
});
