import assert from "node:assert/strict";
import {
  bufferBytes,
  dispatchSize,
  packParams,
  type Shader,
} from "../../../src/backend/webgpu/shader.ts";
import { matrixShaders } from "../../../src/backend/webgpu/matrix_shaders.ts";
import * as shaders from "../../../src/backend/webgpu/shaders.ts";

const all: readonly Shader[] = [...Object.values(shaders), ...matrixShaders];

/** The fields of `struct Params`, and the storage bindings in order of their numbers. */
function declaredIn(code: string) {
  const struct = /struct Params \{([^}]*)\}/.exec(code)?.[1] ?? "";
  const params = [...struct.matchAll(/(\w+): (\w+),/g)].map(([, name, type]) => [name!, type!]);
  const buffers = [...code.matchAll(/@binding\((\d+)\) var<storage, (read|read_write)>/g)]
    .map(([, binding, access]) => ({ binding: Number(binding), access: access! }))
    .sort((a, b) => a.binding - b.binding);
  return { params: Object.fromEntries(params), buffers };
}

for (const shader of all) {
  Deno.test(`${shader.name}.wgsl declares the parameters and buffers that the host gives it`, () => {
    const { params, buffers } = declaredIn(shader.code);
    assert.deepEqual(Object.entries(params), Object.entries(shader.params));
    assert.deepEqual(buffers.map(({ binding }) => binding), shader.buffers.map((_, k) => k + 1));
    assert.deepEqual(
      buffers.map(({ access }) => access === "read" ? "read" : "write"),
      shader.buffers,
    );
  });
}

Deno.test("every shader has a name of its own, by which its pipeline is found", () => {
  assert.equal(new Set(all.map(({ name }) => name)).size, all.length);
});

Deno.test("packParams() writes numbers little-endian in the order of the struct", () => {
  const bytes = packParams(shaders.histogram, { binsPerUnit: 1.5, bins: 258, count: 4294967295 });
  assert.deepEqual([...bytes], [255, 255, 255, 255, 2, 1, 0, 0, 0, 0, 0xc0, 0x3f]);
});

Deno.test("dispatchSize() holds all workgroups and keeps each dimension within 65,535", () => {
  for (const count of [1, 65535, 65536, 100003, 65535 * 3 + 1, 2 ** 24]) {
    const [x, y] = dispatchSize(count);
    assert(x <= 65535 && y <= 65535);
    assert(x * y >= count && x * y < count + y, `${count}: ${x} x ${y}`);
  }
});

Deno.test("bufferBytes() is whole words and never empty", () => {
  assert.deepEqual([0, 1, 4, 5, 8].map(bufferBytes), [4, 4, 4, 8, 8]);
});
