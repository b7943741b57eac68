import assert from "node:assert/strict";
import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { convertModel, type ConvertRequest } from "../../../src/convert/convert.ts";
import type { SessionTimes } from "../../../src/convert/resume/output_session.ts";
import { joinParts } from "../../../src/convert/parts/join.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../../src/plan/options.ts";
import { hiddenName } from "../../../src/safetensors/output_file.ts";
import { OutputLock } from "../../../src/safetensors/output_lock.ts";
import { writeCalibratedModel } from "../../support/calibrated_model.ts";
import { temporaryFolder, tensorOf, writeModel } from "../../support/model_files.ts";
import { WORKER_URL } from "../../support/encode.ts";

type More = Partial<ConvertRequest> & { readonly times?: SessionTimes };

function convert(
  input: string,
  output: string,
  options: Partial<ConvertOptions>,
  { times, ...more }: More = {},
) {
  return convertModel({
    ...more,
    input,
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options },
    workerUrl: WORKER_URL,
    workers: 2,
    measure: true,
  }, times);
}

function makePart(
  input: string,
  output: string,
  options: Partial<ConvertOptions>,
  [index, count]: [number, number],
  more: More = {},
) {
  const part = { index, count, command: ["in.safetensors", "out.safetensors"] };
  return convert(input, output, options, { ...more, part });
}

function joined(output: string) {
  return joinParts({ output, force: false, program: "quantsmith" });
}

const MODES: Record<string, (calibration: string) => Partial<ConvertOptions>> = {
  "rounding to nearest": () => ({}),
  "GPTQ, biases corrected, static scales, metadata": (calibrationPath) => ({
    calibrationPath,
    staticActivations: true,
    saveQuantMetadata: true,
  }),
  "shards": (calibrationPath) => ({ calibrationPath, shardBytes: 60_000 }),
  "smoothing, stored factors": (calibrationPath) => ({
    calibrationPath,
    smoothAlpha: 0.5,
    target: "ctq",
    scaling: "row",
    method: "simple",
  }),
  "stored transformed": () => ({
    method: "quip",
    quip: { ...DEFAULT_CONVERT_OPTIONS.quip, storeTransformed: true },
  }),
  "values kept": () => ({ nonfinite: "keep" }),
  "a LoRA merged": (calibration) => ({
    merge: { paths: [writeLora(dirname(calibration))], scale: 0.7, dampen: true, strict: true },
  }),
  "4 bits, compensated": (calibrationPath) => ({ output: "w4a8", calibrationPath }),
  "formats that fit a size": (calibrationPath) => ({ fit: { share: 0.6 }, calibrationPath }),
  "one scale per tensor": () => ({ scaling: "tensor", target: "ctq", method: "simple" }),
};

/** A LoRA of two of the layers. */
function writeLora(folder: string): string {
  const path = join(folder, "lora.safetensors");
  const values = (count: number, seed: number) =>
    Float32Array.from({ length: count }, (_, i) => Math.sin(seed + i * 0.37));
  writeModel(
    path,
    [1, 4].flatMap((layer) => [
      tensorOf(`blocks.${layer}.lin.lora_A.weight`, "F32", [4, 256], values(4 * 256, layer)),
      tensorOf(`blocks.${layer}.lin.lora_B.weight`, "F32", [96, 4], values(96 * 4, layer + 0.5)),
    ]),
  );
  return path;
}

for (const [mode, optionsOf] of Object.entries(MODES)) {
  for (const count of [1, 2, 3, 7]) {
    Deno.test(`joinParts() writes what one run writes: ${count} parts, ${mode}`, async () => {
      using folder = temporaryFolder();
      const { input, calibration } = writeCalibratedModel(folder.path, { layers: 7, rows: 96 });
      const options = optionsOf(calibration);
      const whole = await convert(input, join(folder.path, "whole.safetensors"), options);
      const output = join(folder.path, "out.safetensors");
      // Any order.
      for (let index = count; index >= 1; index--) {
        await makePart(input, output, options, [index, count]);
      }
      const result = await joined(output);
      const files = readdirSync(folder.path)
        .filter((name) => /^out(-\d+-of-\d+)?\.safetensors(\.index\.json)?$/.test(name)).sort();
      assert.equal(files.length, whole.files.length + (whole.files.length > 1 ? 1 : 0));
      for (const name of files) {
        const own = readFileSync(join(folder.path, name));
        const one = readFileSync(join(folder.path, name.replace("out", "whole")));
        const same = name.endsWith(".json")
          ? own.toString().replaceAll("out-", "whole-") === one.toString()
          : own.equals(one);
        assert(same, `${name} differs`);
      }
      const byName = (layers: typeof whole.layers) =>
        [...layers].sort((a, b) => (a.name < b.name ? -1 : 1));
      assert.deepEqual(byName(result.layers), byName(whole.layers));
    });
  }
}

/** A model whose parts are made: 1 and 2 of 3, or all. */
async function threeParts(folder: string, made: readonly number[] = [1, 2, 3]) {
  const { input } = writeCalibratedModel(folder, { layers: 4, rows: 64 });
  const output = join(folder, "out.safetensors");
  for (const index of made) await makePart(input, output, {}, [index, 3]);
  const file = (index: number) => join(folder, `out.part-${index}-of-3.safetensors`);
  return { input, output, file };
}

Deno.test("joinParts() names a missing part with the command that makes it, and writes nothing", async () => {
  using folder = temporaryFolder();
  const { output } = await threeParts(folder.path, [1, 3]);
  await assert.rejects(
    joined(output),
    /part 2 of 3 is missing: quantsmith in\.safetensors out\.safetensors --part 2\/3/,
  );
  assert(!existsSync(output));
});

Deno.test("joinParts() says so if there is no part at all", async () => {
  using folder = temporaryFolder();
  await assert.rejects(joined(join(folder.path, "out.safetensors")), /no finished part of it/);
});

Deno.test("joinParts() takes no part without a manifest, as a kill leaves it", async () => {
  using folder = temporaryFolder();
  const { input, output } = await threeParts(folder.path);
  rmSync(join(folder.path, "out.part-2-of-3.json"));
  await assert.rejects(joined(output), /part 2 of 3 is missing/);
  // Made again without --force: nothing vouched for the file that was there.
  await makePart(input, output, {}, [2, 3]);
  await joined(output);
});

Deno.test("joinParts() names the part and tensor of a flipped bit, and the part is made again", async () => {
  using folder = temporaryFolder();
  const { input, output, file } = await threeParts(folder.path);
  const bytes = readFileSync(file(2));
  bytes[bytes.length - 5]! ^= 4;
  writeFileSync(file(2), bytes);
  await assert.rejects(
    joined(output),
    /part-2-of-3\.safetensors", tensor ".*checksum differs; make part 2 again: .*--force --part 2\/3/,
  );
  assert(!existsSync(output));
  assert.deepEqual(readdirSync(folder.path).filter((name) => name.startsWith(".")), []);
  const again = await makePart(input, output, {}, [2, 3]);
  assert.equal(again.part!.wasFinished, false);
  await joined(output);
});

Deno.test("joinParts() refuses a part that was cut short", async () => {
  using folder = temporaryFolder();
  const { output, file } = await threeParts(folder.path);
  writeFileSync(file(3), readFileSync(file(3)).subarray(0, -20));
  await assert.rejects(joined(output), /part-3-of-3.*checksum differs/);
  assert(!existsSync(output));
});

Deno.test("joinParts() names the part of other options, of another program, and of a changed input", async () => {
  using folder = temporaryFolder();
  const { input, output } = await threeParts(folder.path);
  await makePart(input, output, { scaleSearch: "off" }, [2, 3], { force: true });
  await assert.rejects(joined(output), /part 2 differs from part 1: scaleSearch was .*--part 2\/3/);
  await makePart(input, output, {}, [2, 3], { force: true, program: "another" });
  await assert.rejects(joined(output), /part 2 differs from part 1: it was made by/);
  utimesSync(input, 1, 1);
  await makePart(input, output, {}, [2, 3], { force: true });
  await assert.rejects(joined(output), /part 2 differs from part 1: .* has changed since/);
  assert(!existsSync(output));
});

Deno.test("joinParts() refuses a part under the number of another", async () => {
  using folder = temporaryFolder();
  const { output, file } = await threeParts(folder.path);
  renameSync(file(1), file(2));
  renameSync(file(3), file(1));
  renameSync(file(2), file(3));
  await assert.rejects(joined(output), /part 2 of 3 is missing/);
});

Deno.test("joinParts() refuses an output that exists", async () => {
  using folder = temporaryFolder();
  const { output } = await threeParts(folder.path);
  writeFileSync(output, "mine");
  await assert.rejects(joined(output), /exists/);
  assert.equal(readFileSync(output, "utf8"), "mine");
});

Deno.test("convertModel() does nothing for a part that is finished, and refuses one made otherwise", async () => {
  using folder = temporaryFolder();
  const { input, output, file } = await threeParts(folder.path, [1]);
  utimesSync(file(1), 5, 5);
  const again = await makePart(input, output, {}, [1, 3], {
    onPlan: () => assert.fail("the part was made again"),
  });
  assert.equal(again.part!.wasFinished, true);
  assert(again.layers.length > 0);
  assert.equal(Deno.statSync(file(1)).mtime!.getTime(), 5000);
  await assert.rejects(
    makePart(input, output, { scaleSearch: "off" }, [1, 3]),
    /part-1-of-3.* exists, and scaleSearch was .*`--force` replaces it/,
  );
});

Deno.test("convertModel() refuses more parts than layers before any work", async () => {
  using folder = temporaryFolder();
  const { input, output } = await threeParts(folder.path, []);
  await assert.rejects(makePart(input, output, {}, [1, 500]), /500 parts: it has \d+ layers, so N/);
  assert.deepEqual(readdirSync(folder.path).filter((name) => name.includes("part")), []);
});

Deno.test("convertModel() refuses two runs at once under one number", async () => {
  using folder = temporaryFolder();
  const { input, output, file } = await threeParts(folder.path, []);
  const lock = await OutputLock.take(hiddenName(file(1), ".lock"), file(1));
  await assert.rejects(makePart(input, output, {}, [1, 3]), /out\.part-1-of-3\.safetensors/);
  // Others are not held up.
  await makePart(input, output, {}, [2, 3]);
  lock.release();
  await makePart(input, output, {}, [1, 3]);
});

Deno.test("convertModel() continues a part that was stopped, to the bytes of one run", async () => {
  using folder = temporaryFolder();
  const { input, calibration } = writeCalibratedModel(folder.path, { layers: 12, rows: 96 });
  const options = { calibrationPath: calibration };
  const whole = await convert(input, join(folder.path, "whole.safetensors"), options);
  const output = join(folder.path, "out.safetensors");
  await makePart(input, output, options, [2, 2]);
  const stop = new AbortController();
  let done = 0;
  await assert.rejects(
    makePart(input, output, options, [1, 2], {
      resume: true,
      signal: stop.signal,
      workers: 1,
      times: { saveMs: 0, touchMs: 20, watchMs: 200 },
      onLayer: () => ++done === 4 ? stop.abort() : undefined,
    }),
    /--resume/,
  );
  assert(!existsSync(join(folder.path, "out.part-1-of-2.safetensors")));
  await assert.rejects(joined(output), /part 1 of 2 is missing/);
  const again = await makePart(input, output, options, [1, 2], { resume: true });
  assert(again.resumed !== null && again.resumed > 0, `resumed ${again.resumed}`);
  await joined(output);
  assert(readFileSync(output).equals(readFileSync(whole.output)));
});

Deno.test("convertModel() leaves a part alone that another run finished while it waited to begin", async () => {
  using folder = temporaryFolder();
  const { input, output, file } = await threeParts(folder.path, []);
  const manifest = file(1).replace(/safetensors$/, "json");
  await makePart(input, output, {}, [1, 3]);
  const finished = readFileSync(manifest);
  const held = `${manifest}.held`;
  renameSync(manifest, held);
  // It finds no finished part; the other one ends before it takes the lock, for which it reads this time.
  const times = {
    get watchMs() {
      if (existsSync(held)) renameSync(held, manifest);
      return 4000;
    },
  };
  const request: ConvertRequest = {
    input,
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } },
    workerUrl: WORKER_URL,
    workers: 2,
    measure: true,
    part: { index: 1, count: 3, command: [] },
    onPlan: () => assert.fail("the part was made again"),
  };
  const late = await convertModel(request, times);
  assert.equal(late.part!.wasFinished, true);
  assert.deepEqual(readFileSync(manifest), finished);
});
