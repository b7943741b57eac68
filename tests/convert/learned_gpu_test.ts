import assert from "node:assert/strict";
import { join } from "node:path";
import { convertModel, type ConvertResult } from "../../src/convert/convert.ts";
import { placementWithin, placeOnGpu } from "../../src/run/gpu_tasks.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import type { QuantizeTask } from "../../src/run/tasks.ts";
import { GpuService } from "../../src/run/workers/gpu_service.ts";
import { DEFAULT_LEARNED_OPTIONS, type LearnedOptimizer } from "../../src/quant/learned/options.ts";
import { startFaultyGpu } from "../support/faulty_gpu.ts";
import { testGpuOnly } from "../support/gpu.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);

/** The fewest columns that go to a GPU. */
const LAYERS = [1, 2].map((seed) => ({
  name: `blocks.${seed}.a`,
  layer: syntheticLayer({ rows: 40, cols: 1024, seed }),
}));

interface Run {
  readonly result: ConvertResult;
  readonly failures: readonly string[];
}

async function withModel(
  body: (
    run: (
      options: Partial<ConvertOptions>,
      gpu: GpuService | null,
      onLayer?: () => void,
    ) => Promise<Run>,
  ) => Promise<void>,
): Promise<void> {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const calibrationPath = join(folder.path, "calibration.safetensors");
  writeModel(
    input,
    LAYERS.map(({ name, layer }) =>
      tensorOf(`${name}.weight`, "F32", [layer.rows, layer.cols], layer.weight)
    ),
  );
  writeModel(
    calibrationPath,
    LAYERS.map(({ name, layer }) =>
      tensorOf(`${name}.activations`, "F32", [128, layer.cols], layer.inputs(128, 1))
    ),
  );
  let count = 0;
  await body(async (options, gpu, onLayer = () => {}) => {
    const failures: string[] = [];
    const result = await convertModel({
      input,
      output: join(folder.path, `${count++}.safetensors`),
      options: {
        ...DEFAULT_CONVERT_OPTIONS,
        preset: { kind: "none" },
        method: "original",
        calibrationPath,
        learned: { ...DEFAULT_LEARNED_OPTIONS, iterations: 40 },
        ...options,
      },
      workerUrl: WORKER,
      workers: 2,
      openGpu: () => Promise.resolve(gpu),
      onGpuFailure: (message) => failures.push(message),
      onLayer,
    });
    return { result, failures };
  });
}

/** The share of codes of both layers that are the same. */
function sameCodes(a: ConvertResult, b: ConvertResult): number {
  let same = 0, all = 0;
  const [one, other] = [readModel(a.output), readModel(b.output)];
  for (const { name } of LAYERS) {
    const codes = one.get(`${name}.weight`)!.data, others = other.get(`${name}.weight`)!.data;
    codes.forEach((code, at) => same += code === others[at] ? 1 : 0);
    all += codes.length;
  }
  return same / all;
}

const MODES: Readonly<Record<string, Partial<ConvertOptions>>> = {
  "rows": { scaling: "row" },
  "rotated rows": { scaling: "row", convrot: 64 },
};

for (const [name, options] of Object.entries(MODES)) {
  testGpuOnly(`convertModel() learns the codes of the CPU on a GPU in ${name}`, async () => {
    await withModel(async (run) => {
      using gpu = await GpuService.start(WORKER);
      const { result: onCpu } = await run(options, null);
      const { result: onGpu, failures } = await run(options, gpu);
      assert.deepEqual(failures, []);
      // Every step of the two layers is one request.
      assert(onGpu.gpu!.operations > 80, `${onGpu.gpu!.operations} operations`);
      const share = sameCodes(onCpu, onGpu);
      assert(share > 0.999, `${share} of the codes are the same`);
      onGpu.layers.forEach(({ learned, errors }, k) => {
        const want = onCpu.layers[k]!;
        const ratio = learned!.lossRatio! / want.learned!.lossRatio!;
        assert(learned!.loss === "output" && Math.abs(ratio - 1) < 0.02, `${ratio}`);
        assert(Math.abs(errors.sqnrDb! - want.errors.sqnrDb!) < 0.02);
      });
    });
  });
}

for (const fault of ["lost", "shader"] as const) {
  testGpuOnly(`convertModel() learns all codes if the GPU fails: ${fault}`, async () => {
    await withModel(async (run) => {
      using faulty = await startFaultyGpu();
      const options = { scaling: "row", convrot: 64 } as const;
      const { result: onCpu } = await run(options, null);
      const { result: broken, failures } = await run(
        options,
        faulty.gpu,
        () => faulty.provoke(fault),
      );
      assert.equal(failures.length, 1, "reported once");
      const [first, second] = LAYERS.map(({ name }) => `${name}.weight`);
      assert(sameCodes(onCpu, broken) > 0.999);
      const codesOf = (result: ConvertResult, name: string) =>
        readModel(result.output).get(name)!.data.slice();
      assert.deepEqual(codesOf(broken, second!), codesOf(onCpu, second!));
      assert.equal(codesOf(broken, first!).length, codesOf(onCpu, first!).length);
      assert(bytesOfFile(broken.output).length === bytesOfFile(onCpu.output).length);
    });
  });
}

Deno.test("placeOnGpu() sends learned codes there that are moved for outputs, up to the size of a Hessian", () => {
  const limits = { maxStorageBufferBindingSize: 1 << 27, maxBufferSize: 1 << 30 };
  const placement = placementWithin(limits);
  const source = {
    name: "a.weight",
    file: 0,
    offsetBytes: 0,
    dtype: "F32" as const,
    rows: 64,
    cols: 2048,
    scale: null,
    convrotGroupSize: null,
  };
  const compensation = { statistic: "activations", rows: 8 } as QuantizeTask["compensation"];
  const task = (optimizer: LearnedOptimizer, data: boolean): QuantizeTask => ({
    kind: "quantize",
    name: "a.weight",
    source,
    groupRows: 1,
    groupCols: 2048,
    convrotGroupSize: null,
    scaleSearch: true,
    compensation: data ? compensation : null,
    learned: { optimizer, options: DEFAULT_LEARNED_OPTIONS, seed: 0 },
    codesOffsetBytes: 0,
    scalesOffsetBytes: 0,
  });
  const tasks = [task("original", true), task("adamw", true), task("original", false)];
  const goes = (most: number) =>
    placeOnGpu(tasks, { ...placement, mostHessian: most })
      .map((placed) => "onGpu" in placed && placed.onGpu !== undefined);
  assert.deepEqual(goes(2048), [true, false, false]);
  assert.deepEqual(goes(2047), [false, false, false]);
});
