import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import * as matrixShaders from "../../src/backend/webgpu/matrix_shaders.ts";
import * as shaders from "../../src/backend/webgpu/shaders.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { fillNormal, randomFor } from "../../src/core/rng.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { GpuService } from "../../src/run/workers/gpu_service.ts";
import { testGpuOnly } from "../support/gpu.ts";
import { bytesOfFile, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const SRC = new URL("../../src/", import.meta.url).href;

/** A worker script in which the text of one shader is edited before anything is compiled. */
function workerWith(folder: string, shader: string, from: string, to: string): URL {
  writeFileSync(
    join(folder, "break.js"),
    `import * as a from "${SRC}backend/webgpu/shaders.ts";
import * as b from "${SRC}backend/webgpu/matrix_shaders.ts";
let edited = 0;
for (const shader of Object.values({ ...a, ...b })) {
  if (typeof shader !== "object" || shader.name !== ${JSON.stringify(shader)}) continue;
  const code = shader.code.replace(${JSON.stringify(from)}, ${JSON.stringify(to)});
  if (code !== shader.code) edited++;
  shader.code = code;
}
if (edited !== 1) throw new Error("The text to be edited is not there");
`,
  );
  const path = join(folder, "worker.js");
  writeFileSync(path, `import "./break.js";\nimport "${SRC}run/workers/worker.ts";\n`);
  return pathToFileURL(path);
}

function writeLayer(path: string, [rows, cols] = [64, 256]): void {
  const values = new Float32Array(rows! * cols!);
  fillNormal(values, randomFor(1, "trust"));
  writeModel(path, [tensorOf("blocks.0.q.weight", "F32", [rows!, cols!], values)]);
}

async function convert(
  folder: string,
  name: string,
  gpu: GpuService | null,
  options: Partial<ConvertOptions> = {},
) {
  const output = join(folder, `${name}.safetensors`);
  const failures: string[] = [];
  const result = await convertModel({
    input: join(folder, "in.safetensors"),
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options },
    workerUrl: new URL("run/workers/worker.ts", SRC),
    workers: 2,
    openGpu: () => Promise.resolve(gpu),
    onGpuFailure: (reason) => failures.push(reason),
  });
  return { result, bytes: bytesOfFile(output), failures };
}

const ALL = Object.values({ ...shaders, ...matrixShaders }).filter((item) =>
  typeof item === "object" && item !== null && "code" in item
) as { readonly name: string; readonly code: string }[];

testGpuOnly("a device whose rotation answers in another order is not trusted", async () => {
  using folder = temporaryFolder();
  writeLayer(join(folder.path, "in.safetensors"));
  const worker = workerWith(
    folder.path,
    "rotate_group",
    "x[first + k] = values[k];",
    "x[first + k] = values[k ^ 1u];",
  );
  using gpu = await GpuService.start(worker);
  const onCpu = await convert(folder.path, "cpu", null);
  const { bytes, failures } = await convert(folder.path, "gpu", gpu);
  assert.deepEqual(bytes, onCpu.bytes);
  assert.equal(failures.length, 1);
  assert.match(failures[0]!, /Cannot trust .*self-test fails in rotate/);
});

/** Leaves the work of workgroups from `first` on undone: small problems do not show it. */
const START = /(@compute[^{]*\{\n)/;
function fromWorkgroup(first: number): string {
  return `if (workgroupIndex(workgroup, workgroups) >= ${first}u) { return; }\n`;
}

testGpuOnly(
  "what a device computes wrong on large problems only is found, and done again",
  async () => {
    using folder = temporaryFolder();
    writeLayer(join(folder.path, "in.safetensors"), [512, 1024]);
    const { code } = shaders.rotateGroup, start = START.exec(code)![0];
    const worker = workerWith(folder.path, "rotate_group", start, start + fromWorkgroup(64));
    using gpu = await GpuService.start(worker);
    assert.equal(gpu.failure, null, "the self-test does not find it");
    const onCpu = await convert(folder.path, "cpu", null);
    const { bytes, failures } = await convert(folder.path, "gpu", gpu);
    assert.equal(failures.length, 1);
    assert.match(failures[0]!, /Cannot trust .*"blocks.0.q.weight"/);
    assert.deepEqual(bytes, onCpu.bytes);
  },
);

/**
 * Shaders that the self-test has no problem for: they reorder and sum up what compensated and learned layers
 * and the library's int8 products need. And the products of devices without packed ones.
 */
const NOT_TESTED = [
  "descend_sums",
  "scaled_product",
  "gather_codes",
  "gather_columns",
  "gemm_i8_bits",
];

/** Half of a group chooses the same scales: another edit for it. */
const SEARCH = { from: "s0 * bestFactor()", to: "s0 * bestFactor() * 0.99" };

testGpuOnly("a device whose scale search goes wrong is not trusted", async () => {
  using folder = temporaryFolder();
  writeLayer(join(folder.path, "in.safetensors"));
  const worker = workerWith(folder.path, "search_scale", SEARCH.from, SEARCH.to);
  using gpu = await GpuService.start(worker);
  const { failures } = await convert(folder.path, "gpu", gpu);
  assert.match(failures.join(), /self-test fails in searchScale/);
});

for (const { name, code } of ALL) {
  if (NOT_TESTED.includes(name) || name === "search_scale") continue;
  const size = /@workgroup_size\((\d+)/.exec(code);
  if (size === null) continue;
  const [whole, count] = size;
  testGpuOnly(
    `a device that leaves out half of the work of ${name} gives the bytes of the CPU, and one warning`,
    async () => {
      using folder = temporaryFolder();
      writeLayer(join(folder.path, "in.safetensors"));
      const less = whole.replace(count!, String(Math.max(1, Number(count) / 2)));
      const worker = workerWith(folder.path, name, whole, less);
      using gpu = await GpuService.start(worker);
      const onCpu = await convert(folder.path, "cpu", null);
      const { bytes, failures } = await convert(folder.path, "gpu", gpu);
      assert.equal(failures.length, 1, `${name} was not found out`);
      assert.deepEqual(bytes, onCpu.bytes);
    },
  );
}

testGpuOnly("convertModel() measures what a GPU rounded as it does the CPU's codes", async () => {
  using folder = temporaryFolder();
  writeLayer(join(folder.path, "in.safetensors"));
  using gpu = await GpuService.start(new URL("run/workers/worker.ts", SRC));
  const onCpu = await convert(folder.path, "cpu", null),
    there = await convert(folder.path, "gpu", gpu);
  assert.equal(there.result.gpu!.operations, 1);
  assert.deepEqual(there.result.layers[0]!.errors, onCpu.result.layers[0]!.errors);
});
