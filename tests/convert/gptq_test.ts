import assert from "node:assert/strict";
import { join } from "node:path";
import { existsSync, writeFileSync } from "node:fs";
import { InterruptedError } from "../../src/core/errors.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { activations, COLS, outputError, ROWS, TOKENS, weights } from "../support/outlier_layer.ts";
import { bytesOfFile, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);

async function withModel(
  body: (
    run: (
      options: Partial<ConvertOptions>,
      workers?: number,
    ) => Promise<string>,
    folder: string,
  ) => Promise<void>,
): Promise<void> {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  writeModel(input, [tensorOf("blocks.0.lin.weight", "F32", [ROWS, COLS], weights())]);
  const x = activations(TOKENS, 1);
  writeModel(join(folder.path, "calibration.safetensors"), [
    tensorOf("blocks.0.lin.activations", "F32", [TOKENS, COLS], x),
  ]);
  let count = 0;
  await body(async (options, workers = 2) => {
    const output = join(folder.path, `${count++}.safetensors`);
    await convertModel({
      input,
      output,
      options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options },
      workerUrl: WORKER,
      workers,
    });
    return output;
  }, folder.path);
}

Deno.test("convertModel() with activations cuts the held-out output error on every grid", async () => {
  await withModel(async (run, folder) => {
    const held = activations(64, 2);
    const calibrationPath = join(folder, "calibration.safetensors");
    for (const scaling of ["row", "block", "tensor"] as const) {
      const plain = await run({ scaling, blockSize: 64, method: "simple" });
      const compensated = await run({ scaling, blockSize: 64, calibrationPath });
      const before = outputError(plain, weights(), held);
      const after = outputError(compensated, weights(), held);
      assert.ok(after < 0.75 * before, `${scaling}: ${after} against ${before}`);
    }
  });
});

Deno.test("convertModel() with calibration gives the same bytes for any number of workers", async () => {
  await withModel(async (run, folder) => {
    const calibrationPath = join(folder, "calibration.safetensors");
    for (const turbo of [false, true]) {
      const options = { calibrationPath, turbo };
      const [one, three] = [await run(options, 1), await run(options, 3)];
      assert.deepEqual(bytesOfFile(three), bytesOfFile(one));
    }
  });
});

Deno.test("convertModel() of a layer that workers do together gives the same bytes for any number of them", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors"), rows = 16, cols = 2048, tokens = 700;
  const numbers = (count: number) =>
    Float32Array.from({ length: count }, (_, i) => ((i * 40503) % 65521) / 65521 - 0.5);
  writeModel(input, [tensorOf("a.lin.weight", "F32", [rows, cols], numbers(rows * cols))]);
  const calibrationPath = join(folder.path, "calibration.safetensors");
  const inputs = numbers(tokens * cols).map((x, i) => i % cols === 7 ? 0 : x * (1 + i % 5));
  writeModel(calibrationPath, [tensorOf("a.lin.activations", "F32", [tokens, cols], inputs)]);
  const options = {
    ...DEFAULT_CONVERT_OPTIONS,
    preset: { kind: "none" },
    calibrationPath,
  } as const;
  const [one, three] = await Promise.all([1, 3].map(async (workers) => {
    const output = join(folder.path, `${workers}.safetensors`);
    const { layers } = await convertModel({ input, output, options, workerUrl: WORKER, workers });
    assert.equal(layers[0]!.note?.kind, "compensated");
    return bytesOfFile(output);
  }));
  assert.deepEqual(three, one);
});

Deno.test("convertModel() with a diagonal Hessian in original space equals round to nearest with scale search", async () => {
  await withModel(async (run, folder) => {
    const path = join(folder, "channels.json");
    const channel_max = Array.from({ length: COLS }, (_, k) => 1 + (k % 7));
    writeFileSync(path, JSON.stringify({ "blocks.0.lin": { channel_max } }));
    const plain = await run({ scaling: "row" });
    const diagonal = await run({ scaling: "row", calibrationPath: path });
    assert.deepEqual(bytesOfFile(diagonal), bytesOfFile(plain));
  });
});

Deno.test("convertModel() refuses calibration of another shape, of NaN, and of unknown fields", async () => {
  await withModel(async (run, folder) => {
    const cases: readonly [unknown, RegExp][] = [
      [{ "blocks.0.lin": { channel_max: [1, 2, 3] } }, /3 channels, its weight has 256/],
      [{ "blocks.0.lin": { channel_maxi: [1] } }, /channel_maxi/],
      [{ "blocks.0.lin": { hessian: [[1, 2]] } }, /square/],
      [{ "blocks.0.lin": { channel_max: Array(COLS).fill(-1) } }, /channel_max\[0\] is -1/],
    ];
    for (const [content, words] of cases) {
      const path = join(folder, "bad.json");
      writeFileSync(path, JSON.stringify(content));
      await assert.rejects(run({ calibrationPath: path }), words);
    }
  });
});

/** A model of several layers of a few bands each, with a Hessian of every kind, and one layer without. */
function writeLayers(folder: string, change: (x: Float32Array, layer: number) => void) {
  const input = join(folder, "layers.safetensors");
  const calibrationPath = join(folder, "statistics.safetensors");
  const rows = 600, names = [0, 1, 2].map((k) => `blocks.${k}.lin`);
  const w = weights();
  const many = (count: number) =>
    Float32Array.from({ length: count }, (_, i) => w[(i * 7) % w.length]!);
  writeModel(input, [
    ...names.map((name) => tensorOf(`${name}.weight`, "F32", [rows, COLS], many(rows * COLS))),
    tensorOf("blocks.3.lin.weight", "F32", [rows, COLS], many(rows * COLS)),
  ]);
  writeModel(
    calibrationPath,
    names.map((name, k) => {
      const x = activations(TOKENS, k);
      change(x, k);
      return tensorOf(`${name}.activations`, "F32", [TOKENS, COLS], x);
    }),
  );
  return { input, calibrationPath };
}

function convertLayers(
  { input, calibrationPath }: { input: string; calibrationPath: string },
  output: string,
  more: Partial<Parameters<typeof convertModel>[0]> = {},
) {
  const options = {
    ...DEFAULT_CONVERT_OPTIONS,
    preset: { kind: "none" },
    calibrationPath,
  } as const;
  return convertModel({ input, output, options, workerUrl: WORKER, workers: 3, ...more });
}

Deno.test("convertModel() reports every layer that workers do together, whatever their number", async () => {
  using folder = temporaryFolder();
  const model = writeLayers(folder.path, () => {});
  const [one, four] = await Promise.all([1, 4].map(async (workers) => {
    const output = join(folder.path, `${workers}.safetensors`);
    const { layers } = await convertLayers(model, output, { workers });
    return { layers, bytes: bytesOfFile(output) };
  }));
  assert.deepEqual(four, one);
  assert.deepEqual(one!.layers.map(({ note }) => note === null), [false, false, false, true]);
});

Deno.test("convertModel() frees all workers if one meets bad calibration data", async () => {
  using folder = temporaryFolder();
  const model = writeLayers(folder.path, (x, layer) => {
    if (layer === 1) x[5 * COLS + 3] = NaN;
  });
  const output = join(folder.path, "out.safetensors");
  await assert.rejects(convertLayers(model, output), /blocks\.1\.lin.*activations\[5, 3\] is NaN/);
  assert.equal(existsSync(output), false);
});

Deno.test("convertModel() stops in the middle of what workers do together", async () => {
  using folder = temporaryFolder();
  const model = writeLayers(folder.path, () => {});
  const output = join(folder.path, "out.safetensors");
  const abort = new AbortController();
  await assert.rejects(
    convertLayers(model, output, { signal: abort.signal, onLayer: () => abort.abort() }),
    InterruptedError,
  );
  assert.equal(existsSync(output), false);
});
