/** Every command of the README and of docs/usage.md, run as written from the packed package. */

import assert from "node:assert/strict";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { EXAMPLES } from "../../src/cli/help.ts";
import { SMALL_MODELS, writeSmallModel as writeEncoder } from "../run/encoder/small_models.ts";
import { wordTokenizer } from "../run/encoder/word_tokenizer.ts";
import { FileServer } from "../support/file_server.ts";
import { InstalledPackage } from "../support/installed_package.ts";
import { writeCalibration, writeSmallModel } from "../support/method_model.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { commandsIn, shellTroubles, wordsOf } from "../support/readme_commands.ts";

const STARTS = ["npx quantsmith ", "quantsmith ", "node quantsmith.js "];

/** Commands with a placeholder for a word, and those that need a registry or compile for minutes. */
const NOT_RUN = [/ (SRC|FILE|OUT|MODEL|SHELL|\.\.\.)/, /^npx -y deno/];

function commandsOf(name: string): string[] {
  return commandsIn(readFileSync(new URL(`../../${name}`, import.meta.url), "utf8"), STARTS);
}

const COMMANDS = ["README.md", "docs/usage.md"].flatMap(commandsOf)
  .filter((command) => !NOT_RUN.some((pattern) => pattern.test(command)));

Deno.test("commands of the documents and of the help are taken by cmd.exe and PowerShell, too", () => {
  const commands = [
    ...["README.md", "docs/usage.md", "docs/scale.md", "docs/methods.md"].flatMap(commandsOf),
    ...EXAMPLES.map(([command]) => command),
  ];
  assert.ok(commands.length > 40);
  const troubles = commands.flatMap((command) =>
    shellTroubles(command).map((why) => `${command}: ${why}`)
  );
  assert.deepEqual(troubles, []);
});

/** A LoRA of one layer of the small model. */
function writeLora(path: string): void {
  const values = (length: number) => Float32Array.from({ length }, (_, i) => (i % 7 - 3) / 100);
  const layer = "diffusion_model.double_blocks.0.img_attn.qkv";
  writeModel(path, [
    tensorOf(`${layer}.lora_A.weight`, "F32", [4, 512], values(4 * 512)),
    tensorOf(`${layer}.lora_B.weight`, "F32", [256, 4], values(256 * 4)),
  ]);
}

/** Puts all files into `place` that the commands name. */
function prepare(installed: InstalledPackage): void {
  const at = (name: string) => join(installed.place, name);
  for (const name of ["model", "text_encoder"]) writeSmallModel(at(`${name}.safetensors`));
  for (const name of ["style", "a_lora", "b_lora"]) writeLora(at(`${name}.safetensors`));
  mkdirSync(at("models"));
  writeSmallModel(at("models/flux1-dev.safetensors"));
  mkdirSync(at("ComfyUI/output/calibration"), { recursive: true });
  writeCalibration(at("ComfyUI/output/calibration/NAME.calibration.safetensors"));
  const encoder = SMALL_MODELS.find(({ title }) => title === "Qwen3")!;
  renameSync(
    writeEncoder(at("models"), encoder, writeFileSync),
    at("qwen3_4b.safetensors"),
  );
  writeFileSync(at("tokenizer.json"), wordTokenizer(64));
  writeFileSync(at("prompts.txt"), "w1 w2 w3\nw4 w5 w6 w7\nw8 w9\n");
  writeFileSync(at("loras.json"), JSON.stringify({ "flux1-dev.safetensors": "style.safetensors" }));
  cpSync(installed.oneFile, at("quantsmith.js"));
  installed.mustRun("node", [
    ...[installed.bin, "model.safetensors", "q.safetensors", "--full_precision_matrix_mult"],
  ]);
  installed.mustRun("node", [
    ...[installed.bin, "model.safetensors", "other_tool.safetensors"],
    ...["--simple", "--scaling_mode", "block", "--block_size", "64"],
  ]);
}

/** Removes outputs that were named by the program, and reports of the same name. */
function removeNamed(place: string): void {
  for (const folder of [place, join(place, "models")]) {
    for (const name of readdirSync(folder)) {
      if (/_(int8|migrated|edited)\b|_int8_/.test(name)) rmSync(join(folder, name));
    }
  }
}

/** A server of the model, and a Hub with one repository of it. */
async function serve(model: Uint8Array): Promise<FileServer> {
  return await FileServer.start({
    files: {
      "path/model.safetensors": model,
      "owner/repo/resolve/main/model.safetensors": model,
      "owner/repo/resolve/revision/folder/model.safetensors": model,
    },
    fault: ({ path }) =>
      path.startsWith("/api/models/owner/repo/tree/")
        ? {
          status: 200,
          headers: { "content-type": "application/json" },
          body: JSON.stringify([{ type: "file", path: "model.safetensors", size: model.length }]),
        }
        : null,
  });
}

/** A command that has not ended by then hangs: it is killed, so that its step fails and not the whole run. */
const HANG_MS = 300_000;

/** Checks that a command which serves until it is interrupted serves a page at the address that it prints, and ends then. */
async function checkServed(child: Deno.ChildProcess): Promise<void> {
  let printed = "";
  let url: string | undefined;
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    printed += text;
    url = /http:\/\/127\.0\.0\.1:\d+\//.exec(printed)?.[0];
    if (url !== undefined) break;
  }
  assert.ok(url !== undefined, `no address in ${printed}`);
  const page = await fetch(url);
  assert.equal(page.status, 200);
  assert.match(await page.text(), /<html/);
  child.kill("SIGINT");
  const [status] = await Promise.all([child.status, child.stderr.cancel()]);
  assert.ok(status.success || status.signal === "SIGINT", JSON.stringify(status));
}

Deno.test("every command of README.md and docs/usage.md runs from the packed package", async (t) => {
  using folder = temporaryFolder();
  const installed = new InstalledPackage(folder.path);
  prepare(installed);
  const { place, home, bin } = installed;
  const model = readFileSync(join(place, "model.safetensors"));
  await using server = await serve(model);
  await using hub = await serve(model);
  assert.ok(COMMANDS.length > 30, `${COMMANDS.length}`);
  for (const command of COMMANDS) {
    await t.step(command, async () => {
      removeNamed(place);
      // LoRAs and models share the names a and b in examples.
      const isBatch = command.includes(" batch ");
      for (const name of ["a", "b"]) {
        if (isBatch) writeSmallModel(join(place, `${name}.safetensors`));
        else {copyFileSync(
            join(place, `${name}_lora.safetensors`),
            join(place, `${name}.safetensors`),
          );}
      }
      const words = wordsOf(command).map((word) => word.replace("https://host", server.origin));
      const isOneFile = words[0] === "node";
      const args = words.slice(words[0] === "npx" || isOneFile ? 2 : 1);
      const child = new Deno.Command("node", {
        args: [isOneFile ? "quantsmith.js" : bin, ...args],
        cwd: place,
        env: { HOME: home, USERPROFILE: home, NO_COLOR: "1", HF_ENDPOINT: hub.origin },
        stdin: "null",
        stdout: "piped",
        stderr: "piped",
        signal: AbortSignal.timeout(HANG_MS),
      }).spawn();
      if (args[0] === "ui") return await checkServed(child);
      const { code, stderr } = await child.output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
    });
  }
});
