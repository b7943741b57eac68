import assert from "node:assert/strict";
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { bytesOfFile, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

const encode = (text: string) => new TextEncoder().encode(text);

/** A file of a header and data bytes. */
function file(header: string, dataBytes = 0, length?: bigint): Uint8Array {
  const json = encode(header);
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

const entry = (name: string, shape: number[], begin: number, end: number, dtype = "F32") =>
  `"${name}":{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${begin},${end}]}`;

/** Content and what the one line must say. */
const BROKEN: Readonly<Record<string, readonly [Uint8Array, RegExp]>> = {
  "an empty file": [new Uint8Array(0), /empty/],
  "a file of five bytes": [new Uint8Array(5), /8 bytes|too short|5 bytes/],
  "a header beyond 100 MB": [file("{}", 0, 100_000_001n), /100,?000,?000/],
  "a header that ends beyond the file": [file("{}", 0, 5000n), /ends|truncated|needs/],
  "a header that is no JSON": [file("{]"), /JSON/],
  "a header that is a list": [file("[1]"), /\{|object/],
  "invalid UTF-8": [new Uint8Array([2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0xff]), /UTF-8/],
  "duplicate names": [
    file(`{${entry("a", [1], 0, 4)},${entry("a", [1], 0, 4)}}`, 4),
    /"a".*(twice|duplicate|repeat)|(twice|duplicate|repeat).*"a"/i,
  ],
  "an unknown dtype": [file(`{${entry("a", [1], 0, 4, "F31")}}`, 4), /F31/],
  "a wrong size": [file(`{${entry("a", [2], 0, 4)}}`, 4), /"a".*8/],
  "overlapping tensors": [
    file(`{${entry("a", [2], 0, 8)},${entry("b", [2], 4, 12)}}`, 12),
    /overlap/i,
  ],
  "a hole": [
    file(`{${entry("a", [1], 0, 4)},${entry("b", [1], 8, 12)}}`, 12),
    /hole|gap|unused|belong/i,
  ],
  "trailing bytes": [file(`{${entry("a", [1], 0, 4)}}`, 9), /follow the last tensor/],
  "truncated data": [file(`{${entry("a", [4], 0, 16)}}`, 10), /6 bytes|missing|truncated|ends/i],
  "a shape that overflows": [
    file(`{${entry("a", [4294967296, 4294967296, 4], 0, 4)}}`, 4),
    /overflow|too large|elements|shape/i,
  ],
  "metadata that is no text": [file(`{"__metadata__":{"a":1}}`), /__metadata__/],
  "a pickle in a zip": [encode("PK\x03\x04 archive/data.pkl"), /pickle|zip|\.ckpt|PyTorch/i],
  "a bare pickle": [new Uint8Array([0x80, 2, 0x63, 0x5f, 0x5f, 1, 2, 3, 4, 5]), /pickle/i],
  "a GGUF file": [encode("GGUF\x03\0\0\0\0\0\0\0"), /GGUF/i],
};

Deno.test("quantsmith refuses every broken file with one line and exit 1, leaving nothing", async (t) => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const output = join(folder.path, "out.safetensors");
  for (const [what, [bytes, words]] of Object.entries(BROKEN)) {
    await t.step(what, async () => {
      writeFileSync(input, bytes);
      const { code, stdout, stderr } = await runCli([input, output]);
      assert.equal(code, 1, stderr);
      assert.equal(stdout, "");
      const lines = stderr.trim().split("\n");
      assert.equal(lines.length, 1, stderr);
      assert.match(lines[0]!, words);
      assert.match(lines[0]!, /in\.safetensors/);
      assert.deepEqual(readdirSync(folder.path), ["in.safetensors"]);
    });
  }
});

Deno.test("quantsmith names missing paths, empty folders and unreadable files", async () => {
  using folder = temporaryFolder();
  const missing = await runCli([join(folder.path, "nowhere.safetensors")]);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /nowhere\.safetensors.*(exist|no such|not found)/i);
  const empty = join(folder.path, "empty");
  mkdirSync(empty);
  const emptyRun = await runCli([empty, join(folder.path, "o.safetensors")]);
  assert.equal(emptyRun.code, 1);
  assert.match(emptyRun.stderr, /empty.*safetensors/);
});

Deno.test({
  name: "quantsmith says that a file may not be read",
  // Only root can become another user, and root may read everything.
  ignore: Deno.uid() !== 0 || Deno.build.os !== "linux",
  fn: async () => {
    using folder = temporaryFolder();
    const input = join(folder.path, "secret.safetensors");
    writeModel(input, [tensorOf("a.weight", "F32", [2, 2], new Float32Array(4))]);
    chmodSync(input, 0o000);
    chmodSync(folder.path, 0o755);
    const script = `import { openModel } from ${
      JSON.stringify(new URL("../../src/safetensors/reader.ts", import.meta.url).href)
    };
      import process from "node:process";
      process.setuid(65534);
      try { openModel(${JSON.stringify(input)}); } catch (e) { console.log(e.message); }`;
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: [
        "eval",
        "--no-check",
        `--config=${new URL("../../deno.json", import.meta.url).pathname}`,
        script,
      ],
      stdout: "piped",
      stderr: "piped",
    }).output();
    assert.match(new TextDecoder().decode(stdout), /secret\.safetensors.*permission/i);
  },
});

Deno.test("quantsmith refuses output = input and an existing output before any work", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  writeModel(input, [tensorOf("a.weight", "F32", [16, 16], new Float32Array(256).fill(1))]);
  const before = bytesOfFile(input);
  for (const flags of [[], ["--force"]]) {
    const { code, stderr } = await runCli([input, input, ...flags]);
    assert.equal(code, 1);
    assert.match(stderr, /in\.safetensors/);
    assert.deepEqual(bytesOfFile(input), before);
  }
  const output = join(folder.path, "out.safetensors");
  writeFileSync(output, "precious");
  const { code, stderr } = await runCli([input, output]);
  assert.equal(code, 1);
  assert.match(stderr, /--force/);
  assert.deepEqual(bytesOfFile(output), encode("precious"));
});

Deno.test("quantsmith names tensor, count and index of NaN, and refuses quantized input", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const w = new Float32Array(512 * 256).fill(0.5);
  w[1000] = NaN;
  writeModel(input, [tensorOf("blocks.0.lin.weight", "F32", [512, 256], w)]);
  const output = join(folder.path, "out.safetensors");
  const nan = await runCli([input, output]);
  assert.equal(nan.code, 1);
  assert.match(
    nan.stderr,
    /"blocks\.0\.lin\.weight".*1 NaN or infinite values, the first at index 1000/,
  );
  assert.deepEqual(readdirSync(folder.path), ["in.safetensors"]);
  w[1000] = 0;
  writeModel(input, [tensorOf("blocks.0.lin.weight", "F32", [512, 256], w)]);
  assert.equal((await runCli([input, output])).code, 0);
  const again = await runCli([output, join(folder.path, "again.safetensors")]);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /already quantized/);
});

Deno.test({
  name: "quantsmith refuses a full disk before any work",
  ignore: Deno.uid() !== 0 || Deno.build.os !== "linux" || !canMount(),
  fn: async () => {
    using folder = temporaryFolder();
    const disk = join(folder.path, "disk");
    mkdirSync(disk);
    const mount = (...args: string[]) =>
      new Deno.Command(args[0]!, { args: args.slice(1) }).outputSync();
    assert.ok(mount("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk).success);
    try {
      const input = join(folder.path, "in.safetensors");
      writeModel(input, [
        tensorOf("blocks.0.a.weight", "F32", [512, 512], new Float32Array(512 * 512)),
      ]);
      const { code, stderr } = await runCli([input, join(disk, "out.safetensors")]);
      assert.equal(code, 1);
      assert.match(stderr, /disk|space|free/);
      assert.deepEqual(readdirSync(disk), []);
    } finally {
      mount("umount", disk);
    }
  },
});

/** Whether this machine lets tests mount a small file system. */
function canMount(): boolean {
  const folder = Deno.makeTempDirSync();
  const run = (command: string, ...args: string[]) => {
    try {
      return new Deno.Command(command, { args, stdout: "null", stderr: "null" }).outputSync()
        .success;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  };
  const mounted = run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder);
  if (mounted) run("umount", folder);
  Deno.removeSync(folder);
  return mounted;
}

Deno.test("quantsmith answers a 100 MB header length in a sparse file at once", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const fd = openSync(input, "w");
  const start = new Uint8Array(8);
  new DataView(start.buffer).setBigUint64(0, 200_000_000n, true);
  writeSync(fd, start);
  ftruncateSync(fd, 300_000_000);
  closeSync(fd);
  const { code, stderr } = await runCli([input, join(folder.path, "o.safetensors")]);
  assert.equal(code, 1);
  assert.match(stderr, /header/);
});

Deno.test("quantsmith exits 2 for unknown flags, presets and contradictions, naming the nearest", async () => {
  const cases: readonly [string[], RegExp][] = [
    [["m.safetensors", "--scaling_mod", "row"], /scaling_mode/],
    [["m.safetensors", "--preset", "flux3"], /flux/],
    [["m.safetensors", "--exclude-layers", "("], /exclude-layers/],
    [["m.safetensors", "--scaling_mode", "block", "--convrot", "256"], /convrot/],
    [["m.safetensors", "--optimizer", "radam", "--lr", "NaN"], /"NaN" for --lr/],
    [
      ["m.safetensors", "--target", "ctq", "--min_k", "9", "--max_k", "8"],
      /--min_k 9 with --max_k 8/,
    ],
    [
      ["m.safetensors", "--lr_schedule", "exponential", "--lr_patience", "3"],
      /--lr_patience with --lr_schedule exponential/,
    ],
    [["m.safetensors", "--workers", "0"], /workers/],
    [[], /model\.safetensors|--help/],
  ];
  for (const [args, words] of cases) {
    const { code, stderr } = await runCli(args);
    assert.equal(code, 2, `${args.join(" ")}: ${stderr}`);
    assert.match(stderr, words);
  }
});
