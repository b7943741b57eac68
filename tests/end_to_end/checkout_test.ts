/** Ways to use a checkout that need no build: installed as a command, imported elsewhere, run by Bun. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { findBun } from "../../scripts/support/find_bun.ts";
import manifest from "../../deno.json" with { type: "json" };
import { writeSmallModel } from "../support/method_model.ts";
import { bytesOfFile, temporaryFolder } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const bun = findBun();

function mustRun(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1", DENO_INSTALL_ROOT: cwd },
  });
  assert.equal(status, 0, stderr);
  return stdout;
}

/** Copies what git has of the checkout, and what is new in it, into `folder`. */
function cloneInto(folder: string): void {
  const list = mustRun(
    "git",
    ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    ROOT,
  );
  const archive = spawnSync("tar", ["-cf", "-", "--null", "-T", "-"], {
    cwd: ROOT,
    input: list.split("\0").filter((name) => /^(src|wgsl|asm|web)\/|^[^/]+$/.test(name)).join("\0"),
    maxBuffer: 1 << 28,
  });
  assert.equal(archive.status, 0, archive.stderr.toString());
  assert.equal(spawnSync("tar", ["-xf", "-"], { cwd: folder, input: archive.stdout }).status, 0);
}

Deno.test("package.json names the packages of deno.json, for Bun", () => {
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const wanted = Object.values(manifest.imports).map((specifier) =>
    /^npm:\/?(.+)@([\d.]+)\/?$/.exec(specifier)!.slice(1)
  );
  assert.deepEqual(dependencies, Object.fromEntries(wanted));
});

Deno.test("deno install -g makes a command of a checkout, and a Deno file elsewhere imports its library", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeSmallModel(at("m.safetensors"));
  const expected = await runCli([at("m.safetensors"), at("expected.safetensors")]);
  assert.equal(expected.code, 0, expected.stderr);
  const config = join(ROOT, "deno.json"), main = join(ROOT, "main.ts");
  const install = ["install", "-g", "-A", "--quiet", "--config", config, "-n", "quantsmith", main];
  mustRun(process.execPath, install, folder.path);
  mustRun(at("bin/quantsmith"), ["m.safetensors", "command.safetensors"], folder.path);
  writeFileSync(
    at("yours.ts"),
    `import { convertToInt8 } from ${JSON.stringify(join(ROOT, "mod.ts"))};
await convertToInt8({ input: "m.safetensors", outputPath: "library.safetensors" });`,
  );
  mustRun(process.execPath, ["run", "-A", "--config", config, "yours.ts"], folder.path);
  for (const name of ["command", "library"]) {
    assert.deepEqual(
      bytesOfFile(at(`${name}.safetensors`)),
      bytesOfFile(at("expected.safetensors")),
    );
  }
});

Deno.test({
  name: "Bun runs a clean clone after bun install, and writes the bytes of Deno",
  ignore: bun === null,
  async fn() {
    using folder = temporaryFolder();
    using models = temporaryFolder();
    const at = (name: string) => join(models.path, name);
    writeSmallModel(at("m.safetensors"));
    const { code, stderr } = await runCli([at("m.safetensors"), at("deno.safetensors")]);
    assert.equal(code, 0, stderr);
    cloneInto(folder.path);
    mustRun(bun!, ["install", "--silent"], folder.path);
    mustRun(bun!, ["main.ts", at("m.safetensors"), at("bun.safetensors")], folder.path);
    assert.deepEqual(bytesOfFile(at("bun.safetensors")), bytesOfFile(at("deno.safetensors")));
  },
});
