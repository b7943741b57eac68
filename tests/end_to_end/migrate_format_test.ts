/** `migrate --format`: layers that load already, in another format, without the original weights. */

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Tensor } from "../../src/core/tensor.ts";
import { encode, int8Layer, markerTensor } from "../support/encode.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";
import { seededFloats } from "../lora/floats.ts";

const ROWS = 48, COLS = 512;
const FORMATS = ["w4a8", "w6a8", "w4a4", "fp8", "mxfp8", "nvfp4"] as const;
const NORM = tensorOf("norm.weight", "BF16", [3], new Uint16Array([1, 2, 3]));

function layer(name: string, seed: number, { rows = ROWS, cols = COLS } = {}): Tensor[] {
  return int8Layer(name, seededFloats(rows * cols, seed), { rows, cols, convrot: 4 }).tensors;
}

/** A bank of experts in INT8. */
function bank(name: string): Tensor[] {
  const [experts, rows, cols] = [2, 8, 256];
  const values = seededFloats(experts * rows * cols, 9);
  const { codes, scales } = encode(values, {
    rows: experts * rows,
    cols,
    groupRows: 1,
    groupCols: cols,
  });
  return [
    tensorOf(`${name}.weight`, "I8", [experts, rows, cols], codes),
    tensorOf(`${name}.weight_scale`, "F32", [experts, rows, 1], scales),
    markerTensor(name, { format: "int8_tensorwise", num_experts: experts }),
  ];
}

/** Runs the command line; returns what it wrote to either stream. */
async function quantsmith(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runCli([...args, "--force", "--no-progress"]);
  assert.equal(code, 0, `${args.join(" ")}: ${stderr}`);
  return stdout + stderr;
}

/** The weights of a file in F32, by name. */
async function valuesOf(file: string): Promise<Map<string, Float32Array>> {
  const restored = `${file}.values.safetensors`;
  await quantsmith("dequantize", file, restored, "--output-dtype", "F32");
  return new Map(
    [...readModel(restored)].filter(([, { dtype }]) => dtype === "F32")
      .map(([name, { data }]) => [name, new Float32Array(data.slice().buffer)]),
  );
}

/** The relative error of `found`, in f64. */
function relativeError(found: Float32Array, wanted: Float32Array): number {
  let error = 0, signal = 0;
  for (let i = 0; i < wanted.length; i++) {
    error += (found[i]! - wanted[i]!) ** 2;
    signal += wanted[i]! ** 2;
  }
  return Math.sqrt(error / signal);
}

for (const format of FORMATS) {
  Deno.test(`migrate --format ${format} writes what --requantize writes, and reports the added error`, async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, `${name}.safetensors`);
    writeModel(at("int8"), [...layer("blocks.0.lin", 3), ...layer("blocks.1.lin", 4), NORM]);
    const more = format === "w4a8"
      ? ["--group-size", "64"]
      : format === "w4a4"
      ? ["--linear-dtype", "int8"]
      : [];
    const said = await quantsmith(
      ...["migrate", at("int8"), at("migrated"), "--format", format, "--json", ...more],
    );
    const again = ["--requantize", "--preset", "none", "--format", format, "--json", ...more];
    const saidAgain = await quantsmith(at("int8"), at("again"), ...again);

    const [want, got] = [readModel(at("again")), readModel(at("migrated"))];
    assert.deepEqual([...got.keys()].toSorted(), [...want.keys()].toSorted());
    for (const [name, tensor] of want) assert.deepEqual(got.get(name), tensor, name);
    const verified = await runCli(["verify", at("migrated")]);
    assert.equal(verified.code, 0, verified.stdout);

    // The reported errors are those between the values of both files.
    const [before, after] = [await valuesOf(at("int8")), await valuesOf(at("migrated"))];
    for (const text of [said, saidAgain]) {
      const events = text.split("\n").filter((line) => line.startsWith("{"))
        .map((line) => JSON.parse(line) as { event: string; name: string; errors: unknown })
        .filter(({ event, errors }) => event === "tensor" && errors !== undefined);
      assert.equal(events.length, 2);
      for (const { name, errors } of events) {
        const { relative_error: told } = errors as { relative_error: number };
        const own = relativeError(after.get(name)!, before.get(name)!);
        assert(own > 0.001 && Math.abs(told / own - 1) < 2e-5, `${name}: ${told}, ${own}`);
      }
    }
  });
}

Deno.test("migrate --format does nothing to layers that are in that format already", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, `${name}.safetensors`);
  writeModel(at("m"), [...layer("blocks.0.lin", 3), ...layer("blocks.1.lin", 4)]);
  for (const format of ["w4a8", "w4a4", "nvfp4"] as const) {
    await quantsmith("migrate", at("m"), at(format), "--format", format);
    const said = await quantsmith("migrate", at(format), at("none"), "--format", format);
    assert.match(said, new RegExp(`is in ${format} as far as it can be`));
    assert(!readdirSync(folder.path).includes("none.safetensors"));
    // And back: whatever the format was, INT8 comes of it.
    await quantsmith("migrate", at(format), at("back"), "--format", "int8");
    const [first, second] = [await valuesOf(at(format)), await valuesOf(at("back"))];
    for (const [name, values] of first) {
      const error = relativeError(second.get(name)!, values);
      assert(error < 0.012, `${format} ${name}: ${error}`);
    }
  }
});

Deno.test("migrate --format leaves banks, embeddings and misfits as they are, and says why", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, `${name}.safetensors`);
  const kept = [
    ...layer("embed_tokens", 5),
    ...bank("blocks.1.experts"),
    ...layer("blocks.2.odd", 6, { rows: 8, cols: 36 }),
  ];
  writeModel(at("m"), [...layer("blocks.0.lin", 3), ...kept, NORM]);
  const said = await quantsmith("migrate", at("m"), at("w4a8"), "--format", "w4a8");
  assert.match(
    said,
    /left as they are: embeddings are loaded as INT8 or FP8 only \(embed_tokens\)/,
  );
  assert.match(said, /left as they are: .*expert banks.*\(blocks\.1\.experts\)/);
  assert.match(said, /left as they are: .*36 columns.*\(blocks\.2\.odd\)/);
  const out = readModel(at("w4a8"));
  for (const tensor of kept) assert.deepEqual(out.get(tensor.name), tensor, tensor.name);
  assert.deepEqual(out.get("blocks.0.lin.weight")!.shape, [ROWS, COLS / 2]);
  // What does not load becomes INT8 if it cannot have the format.
  const blocks = encode(seededFloats(64 * 36, 1), {
    ...{ rows: 64, cols: 36 },
    ...{ groupRows: 4, groupCols: 4 },
  });
  writeModel(at("m"), [
    ...layer("blocks.0.lin", 3),
    tensorOf("odd.weight", "I8", [64, 36], blocks.codes),
    tensorOf("odd.weight_scale", "F32", [16, 9], blocks.scales),
    markerTensor("odd", { format: "int8_blockwise", group_size: 4 }),
  ]);
  assert.match(
    await quantsmith("migrate", at("m"), at("w4a8"), "--format", "w4a8"),
    /INT8: .*\(odd\)/,
  );
  assert.deepEqual(readModel(at("w4a8")).get("odd.weight_scale")!.shape, [64, 1]);
});

Deno.test("migrate --format refuses what it cannot do, and writes nothing", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors"), output = join(folder.path, "out.safetensors");
  writeModel(input, layer("blocks.0.lin", 3));
  const cases: (readonly [readonly string[], RegExp])[] = [
    [["--format", "fp16"], /--format fp16 here: `quantsmith dequantize/],
    [["--format", "w5a8"], /w5a8/],
    [["--format", "w4a8", "--group-size", "48"], /48 for --group-size/],
    [["--group-size", "64"], /--group-size here: it belongs to --format w4a8 and w6a8/],
    [["--format", "int8", "--group-size", "64"], /--group-size here/],
    [["--format", "w4a8", "--linear-dtype", "int8"], /--linear-dtype here: .* w4a4/],
  ];
  for (const [args, message] of cases) {
    const run = await runCli(["migrate", input, output, ...args]);
    assert.equal(run.code, 2, `${args.join(" ")}: ${run.stderr}`);
    assert.match(run.stderr, message);
  }
  const scale = tensorOf("l.weight_scale", "F32", [2, 1], new Float32Array([1, NaN]));
  const broken = [tensorOf("l.weight", "I8", [2, 256], new Int8Array(512)), scale];
  writeModel(input, [...broken, markerTensor("l", { format: "int8_tensorwise" })]);
  const before = bytesOfFile(input);
  const run = await runCli(["migrate", input, output, "--format", "w4a8"]);
  assert.equal(run.code, 1);
  assert.match(run.stderr, /"l": scale-not-finite/);
  assert.deepEqual(bytesOfFile(input), before);
  assert.deepEqual(readdirSync(folder.path), ["m.safetensors"]);
});
