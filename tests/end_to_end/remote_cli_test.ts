/** The command line on models on servers, good ones and bad ones. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import { type Fault, FileServer, type SeenRequest } from "../support/file_server.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { runCli, startCli } from "../support/run_cli.ts";

const ROWS = 1024, COLS = 1024;

function weight(name: string, rows = ROWS, cols = COLS) {
  let state = name.length;
  const bits = Uint16Array.from({ length: rows * cols }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return f32ToBf16((state / 2 ** 32 - 0.5) * 0.1);
  });
  return tensorOf(name, "BF16", [rows, cols], bits);
}

const BLOCKS = Array.from(
  { length: 3 },
  (_, i) => [
    weight(`double_blocks.${i}.img_attn.qkv.weight`),
    tensorOf(
      `double_blocks.${i}.img_attn.norm.key_norm.scale`,
      "BF16",
      [4],
      Uint16Array.of(1, 2, 3, i),
    ),
  ],
);
const REST = [weight("img_in.weight", 256, 128)];

/** Writes `m.safetensors`, and the same in shards with an index as `s.safetensors.index.json`. */
function writeModels(folder: string): void {
  writeModel(join(folder, "m.safetensors"), [...BLOCKS.flat(), ...REST], { format: "pt" });
  const parts = [BLOCKS[0]!, [...BLOCKS[1]!, ...BLOCKS[2]!], REST];
  const map: Record<string, string> = {};
  for (const [i, part] of parts.entries()) {
    const name = `s-0000${i + 1}-of-00003.safetensors`;
    writeModel(join(folder, name), part, { format: "pt" });
    for (const tensor of part) map[tensor.name] = name;
  }
  writeFileSync(join(folder, "s.safetensors.index.json"), JSON.stringify({ weight_map: map }));
}

interface Site extends AsyncDisposable {
  /** A folder that holds the models. */
  readonly folder: string;
  readonly server: FileServer;
}

async function site(fault?: (request: SeenRequest) => Fault | null): Promise<Site> {
  const folder = temporaryFolder();
  writeModels(folder.path);
  const server = await FileServer.start({
    files: folder.path,
    ...(fault === undefined ? {} : { fault }),
  });
  return {
    folder: folder.path,
    server,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

/** Converts the local model and returns the bytes of the output. */
async function convertLocally(folder: string, flags: readonly string[]): Promise<Uint8Array> {
  const output = join(folder, "local.safetensors");
  const { code, stderr } = await runCli([join(folder, "m.safetensors"), output, ...flags]);
  assert.equal(code, 0, stderr);
  return readFileSync(output);
}

Deno.test("quantsmith URL writes the bytes that the local file gives, whatever the connection does", async () => {
  let number = 0;
  await using place = await site(({ begin }) => {
    // The header comes; of the other requests every second one is cut, refused or slow.
    if (begin === 0 || number++ % 2 === 0) return null;
    const faults: Fault[] = [{ cutAfter: 700_000 }, { status: 503 }, {
      sliceBytes: 100_000,
      waitMs: 2,
    }];
    return faults[(number >> 1) % faults.length]!;
  });
  const url = place.server.url("m.safetensors?signature=geheim");
  const output = join(place.folder, "out.safetensors");
  const { code, stderr } = await runCli([url, output, "--json"]);
  assert.equal(code, 0, stderr);
  assert.ok(!stderr.includes("geheim"));
  assert.deepEqual(
    new Uint8Array(readFileSync(output)),
    new Uint8Array(
      await convertLocally(place.folder, []),
    ),
  );
});

Deno.test("quantsmith URL names its output after the file, in the working folder, and shows progress", async () => {
  await using place = await site();
  using work = temporaryFolder();
  const { code, stderr } = await runCli([place.server.url("m.safetensors?a=geheim")], {
    cwd: work.path,
  });
  assert.equal(code, 0, stderr);
  assert.deepEqual(readdirSync(work.path), ["m_int8_row_convrot256_mse.safetensors"]);
  assert.match(stderr, /100% {2}6\.\d+ MB of/);
  assert.ok(!stderr.includes("geheim"));
});

Deno.test("quantsmith URL of an index reads all shards", async () => {
  await using place = await site();
  const output = join(place.folder, "out.safetensors");
  const url = place.server.url("s.safetensors.index.json");
  const { code, stderr } = await runCli(["-i", url, "-o", output]);
  assert.equal(code, 0, stderr);
  const local = await runCli([
    join(place.folder, "s.safetensors.index.json"),
    join(place.folder, "local.safetensors"),
  ]);
  assert.equal(local.code, 0, local.stderr);
  assert.ok(readFileSync(output).equals(readFileSync(join(place.folder, "local.safetensors"))));
});

Deno.test("quantsmith URL fetches once what modes read several times, and leaves nothing of it", async () => {
  await using place = await site();
  const flags = ["--scaling_mode", "tensor", "--nonfinite", "keep", "--verify"];
  const output = join(place.folder, "out.safetensors");
  const before = readdirSync(place.folder).length;
  const { code, stderr } = await runCli([place.server.url("m.safetensors"), output, ...flags]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /everything that was kept is equal to the source/);
  assert.equal(readdirSync(place.folder).length, before + 1);
  const bytes = place.server.requests
    .reduce((sum, { begin, end }) => sum + Math.max(0, (end ?? 0) - (begin ?? 0)), 0);
  const size = readFileSync(join(place.folder, "m.safetensors")).length;
  assert.ok(bytes < size + (2 << 20), `${bytes} bytes of ${size} were asked for`);
  assert.ok(readFileSync(output).equals(await convertLocally(place.folder, flags.slice(0, 4))));
});

Deno.test("inspect, verify, presets detect, dequantize, edit and --dry-run take a URL", async () => {
  await using place = await site();
  const { folder, server } = place;
  const quantized = join(folder, "q.safetensors");
  assert.equal((await runCli([join(folder, "m.safetensors"), quantized])).code, 0);
  const url = server.url("m.safetensors"), quantizedUrl = server.url("q.safetensors");

  const plan = await runCli([url, "--dry-run", "analyze", "--json"]);
  assert.equal(JSON.parse(plan.stdout).totals.quantize, 3);
  const family = await runCli(["presets", "detect", url, "--json"]);
  assert.equal(JSON.parse(family.stdout).family, "flux1");
  const inspected = await runCli(["inspect", quantizedUrl, "--json"]);
  const { quantized: formats, files } = JSON.parse(inspected.stdout);
  assert.deepEqual(formats, { int8_tensorwise: 3 });
  assert.deepEqual(files, [quantizedUrl]);

  const verified = await runCli(["verify", quantizedUrl, "--source", url, "--json"]);
  assert.equal(verified.code, 0, verified.stderr);
  assert.equal(JSON.parse(verified.stdout).loads, true);
  for (const [command, ...flags] of [["dequantize"], ["edit", "--add-keys", "'x': 1"]]) {
    const remote = join(folder, `${command}_remote.safetensors`);
    const local = join(folder, `${command}_local.safetensors`);
    const far = await runCli([command!, quantizedUrl, remote, ...flags]);
    assert.equal(far.code, 0, far.stderr);
    assert.equal((await runCli([command!, quantized, local, ...flags])).code, 0);
    assert.ok(readFileSync(remote).equals(readFileSync(local)), `${command}`);
  }
});

Deno.test("quantsmith URL takes a server that sends no parts of files, and says what that costs", async () => {
  await using place = await site(() => ({ whole: true }));
  const output = join(place.folder, "out.safetensors");
  const before = readdirSync(place.folder).length;
  const { code, stderr } = await runCli([place.server.url("m.safetensors"), output]);
  assert.equal(code, 0, stderr);
  assert.match(
    stderr,
    /warning: the server sends no parts of files: all of the model is downloaded/,
  );
  assert.ok(readFileSync(output).equals(await convertLocally(place.folder, [])));
  assert.equal(readdirSync(place.folder).length, before + 2);
  // One request for the header, one for all.
  assert.equal(place.server.requests.length, 2);
});

Deno.test("quantsmith URL fails with one line that says what to do, and leaves no output", async () => {
  const cases: [Fault, number, RegExp][] = [
    [
      { status: 404 },
      0,
      /^error: Cannot read "http:[^"]*" at byte 0: .*404.*check the address.*\n$/,
    ],
    [{ status: 403 }, 0, /403.*HF_TOKEN/],
    [{ status: 200, body: "<html>" }, 0, /download the file first/],
    [
      { status: 403 },
      2_000_000,
      /tensor "double_blocks[^"]+".*at byte \d+: the server answers 403/,
    ],
    [{ etag: '"v2"' }, 2_000_000, /has changed while it was read: start again/],
    [{ totalBytes: 7_000_000 }, 2_000_000, /has changed.*now 7000000/],
  ];
  for (const [fault, from, pattern] of cases) {
    await using place = await site(({ begin }) => (begin ?? 0) >= from ? fault : null);
    const output = join(place.folder, "out.safetensors");
    const args = [place.server.url("m.safetensors?sig=geheim"), output, "--verbose", "MINIMAL"];
    const before = readdirSync(place.folder).length;
    const { code, stderr } = await runCli(args);
    assert.equal(code, 1);
    assert.match(stderr, pattern);
    assert.equal(stderr.trim().split("\n").length, 1, stderr);
    assert.ok(!stderr.includes("geheim"));
    assert.equal(readdirSync(place.folder).length, before);
  }
});

Deno.test("quantsmith URL ends at once when it is interrupted, also while a server is silent", async () => {
  for (const from of [0, 2_000_000]) {
    await using place = await site(({ begin }) =>
      (begin ?? 0) >= from ? { silentAfter: 100_000 } : null
    );
    const before = readdirSync(place.folder).length;
    const run = startCli([place.server.url("m.safetensors"), join(place.folder, "o.safetensors")]);
    while (!place.server.requests.some(({ begin }) => (begin ?? 0) >= from)) {
      await new Promise((done) => setTimeout(done, 20));
    }
    await new Promise((done) => setTimeout(done, 300)); // until it waits
    run.kill("SIGINT");
    const { code, stderr } = await run.output();
    assert.equal(code, 130);
    assert.match(new TextDecoder().decode(stderr), /error: Interrupted: no output was written\n$/);
    assert.equal(readdirSync(place.folder).length, before);
  }
});

Deno.test("other files than the model are not read from servers, and say so", async () => {
  await using place = await site();
  const local = join(place.folder, "m.safetensors");
  const url = place.server.url("lora.safetensors?sig=geheim");
  for (const flags of [["--like", url], ["--merge-lora", url], ["--calibration-data", url]]) {
    const { code, stderr } = await runCli([local, join(place.folder, "o.safetensors"), ...flags]);
    assert.notEqual(code, 0);
    assert.match(stderr, /only the model itself is read from a server; download this file first/);
    assert.ok(!stderr.includes("geheim"), stderr);
  }
  const batch = await runCli(["batch", url, "-y"]);
  assert.equal(batch.code, 2);
  assert.match(batch.stderr, /one by one/);
  assert.deepEqual(place.server.requests, []);
});

/** A Hub: lists the folder as the repository `o/r`, and redirects its files to `cdn`. */
async function hub(folder: string, cdn: FileServer): Promise<FileServer> {
  return await FileServer.start({
    files: {},
    fault: ({ path, headers }) => {
      if (headers.authorization !== "Bearer hf_geheim") return { status: 401 };
      const tree = /^\/api\/models\/o\/r\/tree\/(main|v1)(?:\/(\w+))?$/.exec(path);
      if (tree !== null) {
        const names = tree[2] === undefined ? ["README.md", "m.safetensors"] : [
          ...readdirSync(folder).filter((name) => name.startsWith("s")),
        ];
        const inFolder = tree[2] === undefined ? "" : `${tree[2]}/`;
        const entries = names.map((name) => ({ type: "file", path: inFolder + name, size: 1 }));
        return {
          status: 200,
          headers: { "content-type": "application/json" },
          body: JSON.stringify([...entries, { type: "directory", path: "t", size: 0 }]),
        };
      }
      const file = /^\/o\/r\/resolve\/(?:main|v1)\/(?:t\/)?([\w.-]+)$/.exec(path);
      return file === null
        ? { status: 404 }
        : { status: 302, headers: { location: cdn.url(`${file[1]}?signature=geheim`) } };
    },
  });
}

Deno.test("quantsmith hf:// reads a repository, a folder of shards or a file, and sends the token to the Hub alone", async () => {
  await using place = await site();
  await using server = await hub(place.folder, place.server);
  using work = temporaryFolder();
  const env = { HF_ENDPOINT: server.origin, HF_TOKEN: "hf_geheim" };
  const words = ["hf://o/r", "hf://o/r/t@v1", "hf://o/r@v1/m.safetensors"];
  for (const [i, word] of words.entries()) {
    const { code, stderr, stdout } = await runCli([word, `${i}.safetensors`, "--json"], {
      cwd: work.path,
      env,
    });
    assert.equal(code, 0, stderr);
    assert.ok(!(stderr + stdout).includes("geheim"));
    assert.equal(JSON.parse(stdout.split("\n")[0]!).input, word);
  }
  const expected = await convertLocally(place.folder, []);
  assert.ok(readFileSync(join(work.path, "0.safetensors")).equals(expected));
  assert.ok(readFileSync(join(work.path, "2.safetensors")).equals(expected));
  for (const { headers } of place.server.requests) assert.equal(headers.authorization, undefined);
  assert.ok(place.server.requests.length > 0);

  const page = await runCli(["inspect", `${server.origin}/o/r/tree/main`, "--json"], { env });
  assert.equal(JSON.parse(page.stdout).tensors, 7, page.stderr);

  const closed = await runCli(["inspect", "hf://o/r"], { env: { ...env, HF_TOKEN: "hf_wrong" } });
  assert.equal(closed.code, 1);
  assert.match(closed.stderr, /401.*licence/);
  assert.ok(!closed.stderr.includes("hf_wrong"));
});
