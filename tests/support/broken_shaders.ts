/** Shaders that are broken on purpose, by edits of their text, so that tests see whether it is found. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { referenceLinalg } from "../../src/backend/reference/linalg/reference_linalg.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import type { Gpu } from "../../src/backend/webgpu/device.ts";
import * as matrixShaders from "../../src/backend/webgpu/matrix_shaders.ts";
import type { Shader } from "../../src/backend/webgpu/shader.ts";
import { type KernelCheck, problemsOf, selfTest } from "../../src/backend/webgpu/self_test.ts";
import * as shaders from "../../src/backend/webgpu/shaders.ts";

const SRC = new URL("../../src/", import.meta.url).href;

/** All shaders. */
export const ALL_SHADERS: readonly Shader[] = [
  ...Object.values(shaders),
  ...matrixShaders.matrixShaders,
];

/** The shader of this name. */
export function shaderNamed(name: string): Shader {
  const found = ALL_SHADERS.find((shader) => shader.name === name);
  if (found === undefined) throw new Error(`There is no shader ${name}`);
  return found;
}

/** Half of the invocations do nothing. */
export function halfOfIt({ code }: Shader): string {
  return code.replace(
    /@workgroup_size\((\d+)\)/,
    (_, count) => `@workgroup_size(${Number(count) / 2})`,
  );
}

/** Results go to the place of the neighbour. */
export function permuted({ code }: Shader): string {
  // The last storage buffers that are written are results in every shader.
  const written = [...code.matchAll(/var<storage, read_write> (\w+)/g)].map(([, name]) => name);
  let edited = code;
  for (const name of written) {
    edited = edited
      .replace(new RegExp(`^(\\s*)${name}\\[(.+)\\] (\\+?=) `, "gm"), `$1${name}[($2) ^ 1u] $3 `)
      .replace(new RegExp(`&${name}\\[(.+?)\\](?=[,)])`, "g"), `&${name}[($1) ^ 1u]`);
    // One cell has no neighbour: what goes there is another number.
    edited = edited.replace(
      new RegExp(`atomicMin\\(&${name}, i\\)`),
      `atomicMin(&${name}, i ^ 1u)`,
    );
  }
  return edited;
}

/** Workgroups from `first` on do nothing. */
export function beyond({ code }: Shader, first: number): string {
  const leave = `if (workgroupIndex(workgroup, workgroups) >= ${first}u) { return; }\n`;
  return code.replace(/(@compute[^{]*\{\n)/, (start) => start + leave);
}

/** Writes a worker script to `folder` in which the shader of this name has `code`; returns its URL. */
export function workerWith(folder: string, name: string, code: string): URL {
  if (shaderNamed(name).code === code) throw new Error(`Nothing of ${name} was edited`);
  writeFileSync(
    join(folder, "break.js"),
    `import * as a from "${SRC}backend/webgpu/shaders.ts";
import * as b from "${SRC}backend/webgpu/matrix_shaders.ts";
for (const shader of [...Object.values(a), ...b.matrixShaders]) {
  if (shader.name === ${JSON.stringify(name)}) shader.code = ${JSON.stringify(code)};
}
`,
  );
  const path = join(folder, "worker.js");
  writeFileSync(path, `import "./break.js";\nimport "${SRC}run/workers/worker.ts";\n`);
  return pathToFileURL(path);
}

const RIGHT = { kernels: referenceKernels, linalg: referenceLinalg };

/** The problems that each shader takes part in, so that not all are tried for each. */
export async function problemsByShader(gpu: Gpu): Promise<ReadonlyMap<string, string[]>> {
  return await (byShader ??= findProblems(gpu));
}

let byShader: Promise<ReadonlyMap<string, string[]>> | null = null;

async function findProblems(gpu: Gpu): Promise<ReadonlyMap<string, string[]>> {
  const found = new Map<string, string[]>();
  const watched = Object.create(gpu, {
    device: { value: gpu.device },
    failure: { get: () => gpu.failure },
    buffers: { value: gpu.buffers },
    deadlines: { value: gpu.deadlines },
    isCompiled: { value: () => true },
    layout: { value: (shader: Shader) => gpu.layout(shader) },
    forget: { value: (shader: Shader) => gpu.forget(shader) },
  }) as Gpu;
  for (const problem of problemsOf(null)) {
    Object.defineProperty(watched, "pipeline", {
      configurable: true,
      value: (shader: Shader) => {
        const known = found.get(shader.name) ?? [];
        if (!known.includes(problem)) found.set(shader.name, [...known, problem]);
        return gpu.pipeline(shader);
      },
    });
    await selfTest(watched, RIGHT, [problem]);
  }
  return found;
}

/** The `problems` of the self-test that fail while `shader` has another text. */
export async function failuresWith(
  gpu: Gpu,
  shader: Shader,
  code: string,
  problems: readonly string[],
): Promise<KernelCheck[]> {
  const original = shader.code;
  gpu.forget(shader);
  gpu.buffers.trim(); // which hold right results of before
  (shader as { code: string }).code = code;
  try {
    return (await selfTest(gpu, RIGHT, problems)).filter(({ passed }) => !passed);
  } finally {
    (shader as { code: string }).code = original;
    gpu.forget(shader);
  }
}
