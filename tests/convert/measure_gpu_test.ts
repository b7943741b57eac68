import assert from "node:assert/strict";
import { join } from "node:path";
import type { AdapterInfo } from "../../src/backend/webgpu/adapter.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { type GpuPlacement, placementWithin } from "../../src/run/gpu_tasks.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import type { OutputErrors } from "../../src/convert/output_errors.ts";
import { GpuService } from "../../src/run/workers/gpu_service.ts";
import { startFaultyGpu } from "../support/faulty_gpu.ts";
import { testGpuOnly } from "../support/gpu.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { WORKER_URL } from "../support/encode.ts";
import { activations, COLS, ROWS, weights } from "../support/outlier_layer.ts";

/** Every other one is held out and measured with. */
const INPUTS = 150;

/** Small products go to the GPU too. */
function everything({ limits }: AdapterInfo): GpuPlacement {
  const placement = placementWithin(limits);
  return { ...placement, linalg: { ...placement.linalg, leastProducts: 1 } };
}

interface Measured {
  readonly output: OutputErrors;
  readonly operations: number;
  readonly failures: number;
}

async function measure(
  options: Partial<ConvertOptions>,
  gpu: GpuService | null,
  onLayer: () => void = () => {},
): Promise<Measured> {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const calibrationPath = join(folder.path, "calibration.safetensors");
  writeModel(input, [tensorOf("a.weight", "F32", [ROWS, COLS], weights())]);
  writeModel(calibrationPath, [
    tensorOf("a.activations", "F32", [2 * INPUTS, COLS], activations(2 * INPUTS, 1)),
  ]);
  let failures = 0;
  const result = await convertModel({
    input,
    output: join(folder.path, "out.safetensors"),
    options: {
      ...DEFAULT_CONVERT_OPTIONS,
      preset: { kind: "none" },
      method: "simple",
      calibrationPath,
      ...options,
    },
    workerUrl: WORKER_URL,
    workers: 2,
    measure: true,
    openGpu: () => Promise.resolve(gpu),
    onGpuFailure: () => failures++,
    onLayer,
  });
  const { output } = result.layers[0]!;
  assert.ok(output);
  return { output, failures, operations: result.gpu?.operations ?? 0 };
}

function assertNear(got: OutputErrors, want: OutputErrors): void {
  assert(Math.abs(got.w8a16 / want.w8a16 - 1) < 1e-4, `${got.w8a16} ${want.w8a16}`);
  assert(Math.abs(got.w8a8! / want.w8a8! - 1) < 1e-4, `${got.w8a8} ${want.w8a8}`);
  assert.deepEqual([got.on, got.rows], [want.on, want.rows]);
}

const MODES: Readonly<Record<string, Partial<ConvertOptions>>> = {
  "rows": { scaling: "row" },
  "rotated rows": { scaling: "row", convrot: 16 },
  "blocks": { scaling: "block", blockSize: 16 },
};

for (const [name, options] of Object.entries(MODES)) {
  testGpuOnly(`convertModel() measures outputs on a GPU as on the CPU in ${name}`, async () => {
    using gpu = await GpuService.start(WORKER_URL, everything);
    const onCpu = await measure(options, null), onGpu = await measure(options, gpu);
    // One to round, one to measure.
    assert(onGpu.operations >= 2, `${onGpu.operations} operations`);
    assertNear(onGpu.output, onCpu.output);
    assert(onCpu.output.w8a8! > onCpu.output.w8a16);
  });
}

testGpuOnly("convertModel() measures outputs on the CPU if the GPU fails", async () => {
  using faulty = await startFaultyGpu(everything);
  const options = { scaling: "row" } as const;
  const broken = await measure(options, faulty.gpu, () => faulty.provoke("lost"));
  assert.equal(broken.failures, 1);
  assert.deepEqual(broken.output, (await measure(options, null)).output);
});
