import assert from "node:assert/strict";
import { join } from "node:path";
import { convertModel, type ConvertResult } from "../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { DEFAULT_LEARNED_OPTIONS, LEARNED_OPTIMIZERS } from "../../src/quant/learned/options.ts";
import { compileLayerPattern } from "../../src/config/layer_pattern.ts";
import { NO_OVERRIDE } from "../../src/config/layer_override.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);

/** Layers that blocks of 64 fit, and one that they do not. */
const SHAPES = [["a", 128, 192], ["b", 192, 64], ["c", 60, 80]] as const;
const LAYERS = SHAPES.map(([name, rows, cols], seed) => ({
  name: `blocks.0.${name}`,
  layer: syntheticLayer({ rows, cols, seed: seed + 1 }),
}));

const LEARNED = { ...DEFAULT_LEARNED_OPTIONS, minDirections: 12, iterations: 60 };

type Run = (
  options: Partial<ConvertOptions>,
  machine?: { workers?: number; memoryLimitBytes?: number },
) => Promise<ConvertResult>;

async function withModel(
  body: (run: Run, folder: string) => Promise<void>,
): Promise<void> {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  writeModel(
    input,
    LAYERS.map(({ name, layer }) =>
      tensorOf(`${name}.weight`, "F32", [layer.rows, layer.cols], layer.weight)
    ),
  );
  const [{ name, layer }] = LAYERS as [typeof LAYERS[number]];
  writeModel(join(folder.path, "calibration.safetensors"), [
    tensorOf(`${name}.activations`, "F32", [256, layer.cols], layer.inputs(256, 1)),
  ]);
  let count = 0;
  await body((options, { workers = 2, memoryLimitBytes } = {}) =>
    convertModel({
      input,
      output: join(folder.path, `${count++}.safetensors`),
      options: {
        ...DEFAULT_CONVERT_OPTIONS,
        preset: { kind: "none" },
        learned: LEARNED,
        blockSize: 64,
        ...options,
      },
      workerUrl: WORKER,
      workers,
      memoryLimitBytes: memoryLimitBytes ?? null,
    }), folder.path);
}

Deno.test("convertModel() learns codes on every grid, rotated or not, and says what it did", async () => {
  await withModel(async (run) => {
    for (const optimizer of LEARNED_OPTIMIZERS) {
      for (
        const mode of [
          {},
          { scaling: "row" },
          { scaling: "block" },
          { scaling: "tensor" },
          { scaling: "row", convrot: 16 },
        ] as const
      ) {
        const { layers } = await run({ ...mode, method: optimizer });
        const plain = await run(mode);
        layers.forEach(({ name, learned, note, errors }, i) => {
          const what = `${optimizer} ${JSON.stringify(mode)} ${name}: ${note}`;
          assert.ok(learned !== null && learned.lossRatio !== null, what);
          assert.ok(learned.lossRatio < (mode.scaling === "tensor" ? 1 : 0.9), what);
          assert.ok(learned.moved > 0 && learned.trajectory.loss.length === learned.steps, what);
          const fall = plain.layers[i]!.errors.sqnrDb! - errors.sqnrDb!;
          assert.ok(fall < 0.301, `${what}: ${fall} dB`);
        });
      }
    }
  });
});

Deno.test("convertModel() with learned codes gives the same bytes for any number of workers", async () => {
  await withModel(async (run, folder) => {
    for (const calibrationPath of [null, join(folder, "calibration.safetensors")]) {
      for (const method of ["original", "adamw"] as const) {
        const [one, three] = [
          await run({ method, calibrationPath }, { workers: 1 }),
          await run({ method, calibrationPath }, { workers: 3 }),
        ];
        assert.deepEqual(bytesOfFile(three.output), bytesOfFile(one.output));
        assert.deepEqual(
          three.layers.map(({ learned }) => learned),
          one.layers.map(({ learned }) => learned),
        );
        assert.equal(
          one.layers[0]!.learned!.loss,
          calibrationPath === null ? "projected" : "output",
        );
      }
    }
    const seeds = [await run({ method: "original" }), await run({ method: "original", seed: 1 })];
    assert.notDeepEqual(bytesOfFile(seeds[0]!.output), bytesOfFile(seeds[1]!.output));
  });
});

Deno.test("convertModel() without iterations is round to nearest", async () => {
  await withModel(async (run) => {
    const learned = { ...LEARNED, iterations: 0 };
    for (const scaling of ["block", "row", "tensor"] as const) {
      for (const scaleSearch of ["off", "mse"] as const) {
        const none = await run({ method: "original", scaling, learned, scaleSearch });
        const plain = await run({ scaling, scaleSearch });
        const what = `${scaling}, ${scaleSearch}`;
        assert.deepEqual(bytesOfFile(none.output), bytesOfFile(plain.output), what);
      }
    }
  });
});

Deno.test("convertModel() lowers the held-out output error with calibration data", async () => {
  await withModel(async (run, folder) => {
    const calibrationPath = join(folder, "calibration.safetensors");
    const { layer } = LAYERS[0]!, { rows, cols } = layer, x = layer.inputs(64, 2);
    const errorOf = ({ output }: ConvertResult): number => {
      const model = readModel(output);
      const codes = new Int8Array(model.get("blocks.0.a.weight")!.data.slice().buffer);
      const scales = new Float32Array(model.get("blocks.0.a.weight_scale")!.data.slice().buffer);
      let error = 0;
      for (let t = 0; t < 64; t++) {
        for (let r = 0; r < rows; r++) {
          let sum = 0;
          for (let k = 0; k < cols; k++) {
            const at = r * cols + k;
            sum += x[t * cols + k]! * (codes[at]! * scales[r]! - layer.weight[at]!);
          }
          error += sum * sum;
        }
      }
      return Math.sqrt(error);
    };
    const learned = { ...LEARNED, iterations: 400 };
    const plain = errorOf(await run({ scaling: "row", method: "simple" }));
    const after = errorOf(
      await run({ scaling: "row", method: "original", calibrationPath, learned }),
    );
    assert.ok(after < 0.75 * plain, `${after / plain}`);
  });
});

Deno.test("convertModel() takes the optimizer of single layers, and rounds the others plainly", async () => {
  await withModel(async (run) => {
    const pattern = compileLayerPattern("blocks\\.0\\.b", { place: "test" });
    const override = { ...NO_OVERRIDE, output: "int8" as const, origin: "test" };
    const flags = { fallback: null, notes: [] };
    const custom = { pattern, override: { ...override, optimizer: "radam" as const } };
    const layers = { config: null, fullmatch: false, flags: { ...flags, custom } };
    const { layers: done } = await run({ layers });
    assert.deepEqual(done.map(({ learned }) => learned?.optimizer ?? null), [null, "radam", null]);
    const simple = { pattern, override: { ...override, simple: true } };
    const other = { config: null, fullmatch: false, flags: { ...flags, custom: simple } };
    const { layers: rest } = await run({ method: "original", layers: other });
    assert.deepEqual(rest.map(({ learned }) => learned?.optimizer ?? null), [
      "original",
      null,
      "original",
    ]);
  });
});

Deno.test("convertModel() refuses a memory limit that a learned layer does not fit, saying what it needs", async () => {
  await withModel(async (run) => {
    await assert.rejects(
      run({ method: "original" }, { memoryLimitBytes: 60e6 }),
      /--memory-limit 60MB: this needs \d+MB with one worker/,
    );
  });
});
