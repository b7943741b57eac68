/** The completion scripts, run by the shells that they are for. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { completionScript } from "../../src/cli/completions.ts";
import { TempFolder } from "../support/header_fixtures.ts";

function isThere(shell: string): boolean {
  return spawnSync(shell, ["-c", "true"]).status === 0;
}

/** Returns what a shell prints for `program`, one word a line. */
function ask(shell: string, program: string, flags: readonly string[] = []): string[] {
  using folder = new TempFolder();
  const path = folder.write("quantsmith", completionScript(shell as "bash"));
  folder.write("some.safetensors", "");
  const { status, stdout, stderr } = spawnSync(shell, [...flags, "-c", program], {
    cwd: folder.path,
    env: { ...process.env, SCRIPT: path },
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, "");
  return stdout.split("\n").filter((line) => line !== "");
}

/** Returns the completions of the last of `words` in a shell. */
const COMPLETE: Readonly<Record<string, (words: readonly string[]) => string[]>> = {
  bash: (words) =>
    ask(
      "bash",
      `source "$SCRIPT"; COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); ` +
        `COMP_CWORD=${words.length - 1}; _quantsmith; printf '%s\\n' "\${COMPREPLY[@]}"`,
      ["--norc"],
    ),
  // The candidates: the completion system does the matching, the script only lists them.
  zsh: (words) =>
    ask(
      "zsh",
      'compdef() { : }; _arguments() { print -rl -- "$@" }; compadd() { print -rl -- "$@" }; ' +
        `_files() { : }; source "$SCRIPT"; words=(${
          words.map((word) => `'${word}'`).join(" ")
        }); ` +
        "_quantsmith; _quantsmith_first",
      ["-f"],
    ).flatMap((line) => {
      const second = /^2: :\((.*)\)$/.exec(line);
      return second === null ? [line.replace(/\[.*/, "")] : second[1]!.split(" ");
    }),
  fish: (words) =>
    ask("fish", `source "$SCRIPT"; complete -C '${words.join(" ")}'`, ["--no-config"])
      .map((line) => line.split("\t")[0]!),
};

for (const [shell, complete] of Object.entries(COMPLETE)) {
  const ignore = !isThere(shell);
  const name = `completionScript() in ${shell}`;

  Deno.test({
    name: `${name} offers each subcommand its own flags only`,
    ignore,
    fn() {
      const verify = complete(["quantsmith", "verify", "--"]);
      assert.ok(verify.includes("--source") && verify.includes("--workers"), verify.join(" "));
      assert.ok(!verify.includes("--block_size") && !verify.includes("--output-dtype"));
      const convert = complete(["quantsmith", "--"]);
      assert.ok(convert.includes("--block_size") && convert.includes("--convrot"));
      assert.ok(!convert.includes("--source"));
      const batch = complete(["quantsmith", "batch", "--"]);
      assert.ok(batch.includes("--lora-dir") && batch.includes("--block_size"));
      assert.ok(!batch.includes("--output"));
    },
  });

  Deno.test({
    name: `${name} offers switches in both directions`,
    ignore,
    fn() {
      const forms = complete(["quantsmith", "--"]);
      for (const form of ["--simple", "--no-simple", "--no-progress", "--normalize-scales"]) {
        assert.ok(forms.includes(form), form);
      }
      assert.ok(!forms.includes("--no-help"));
    },
  });

  Deno.test({
    name: `${name} offers subcommands first, and the words that follow them`,
    ignore,
    fn() {
      const first = complete(["quantsmith", ""]);
      for (const word of ["inspect", "verify", "help"]) assert.ok(first.includes(word), word);
      assert.ok(complete(["quantsmith", "presets", ""]).includes("detect"));
      assert.ok(complete(["quantsmith", "help", ""]).includes("verify"));
    },
  });
}

Deno.test({
  name: "completionScript() in bash offers the values of a choice, and files",
  ignore: !isThere("bash"),
  fn() {
    const values = COMPLETE["bash"]!(["quantsmith", "m.safetensors", "--scaling_mode", "t"]);
    assert.deepEqual(values, ["tensor"]);
    assert.deepEqual(COMPLETE["bash"]!(["quantsmith", "verify", "so"]), ["some.safetensors"]);
  },
});

Deno.test("completionScript() in PowerShell has every command, its flags and their words, quoted", () => {
  const script = completionScript("powershell");
  assert.match(script, /^Register-ArgumentCompleter -Native -CommandName quantsmith/m);
  const entry = (key: string) =>
    script.split("\n").find((line) => line.startsWith(`    '${key}' =`));
  assert.match(entry("inspect")!, /'--json'/);
  assert.doesNotMatch(entry("inspect")!, /'--optimizer'/);
  assert.match(entry("convert")!, /'--no-comfy_quant'/);
  assert.match(entry("--scaling_mode")!, /@\('tensor', 'axis', 'row', 'block'\)/);
  assert.match(script, /'presets' = @\('list', 'show', 'detect'\)/);
  // Quotes and brackets come in pairs.
  const plain = script.replaceAll(/'(?:[^']|'')*'/g, "").replaceAll(/"[^"]*"/g, "")
    .replaceAll(/^#.*$/gm, "");
  assert.doesNotMatch(plain, /['"]/);
  for (const [open, close] of ["()", "{}", "[]"]) {
    assert.equal(plain.split(open!).length, plain.split(close!).length, open);
  }
});
