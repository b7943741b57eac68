import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { DTYPE_BITS } from "../../src/core/dtype.ts";
import { InterruptedError, UnsupportedError } from "../../src/core/errors.ts";
import { applyOperations, type Operation } from "../../src/edit/operation.ts";
import { coalesceCopies, writeEdited } from "../../src/edit/write_edited.ts";
import type { CopyTask } from "../../src/run/tasks.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { WORKER_URL } from "../support/encode.ts";

const SAID = { place: "", detail: "" };

/** Tensors of any dtype and small shape, with bytes of their own. */
const TENSORS = fc.array(
  fc.record({
    dtype: fc.constantFrom("F64", "F32", "BF16", "I8", "U8", "F8_E4M3"),
    shape: fc.array(fc.nat(5), { maxLength: 3 }),
  }),
  { minLength: 1, maxLength: 12 },
).map((all) =>
  all.map(({ dtype, shape }, index) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const bytes = Uint8Array.from(
      { length: count * DTYPE_BITS[dtype] / 8 },
      (_, i) => (index * 37 + i * 11 + 1) & 255,
    );
    return tensorOf(`t${index}`, dtype, shape, bytes);
  })
);

Deno.test("writeEdited() keeps every byte that no operation names, whatever is done around it", async () => {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const input = join(folder.path, "in.safetensors");
  const output = join(folder.path, "out.safetensors");
  await fc.assert(
    fc.asyncProperty(
      TENSORS,
      fc.array(fc.constantFrom("keep", "remove", "rename", "replace", "beside"), {
        minLength: 12,
        maxLength: 12,
      }),
      async (tensors, fates) => {
        writeModel(input, tensors, { config: "{}" });
        const bytes = new Uint8Array([7, 7, 7]);
        const info = { name: "", dtype: "U8", shape: [3] } as const;
        const operations = tensors.flatMap(({ name, shape }, index): Operation[] => {
          switch (fates[index]) {
            case "remove":
              return [{ kind: "remove", tensor: name, ...SAID }];
            case "rename":
              return [{ kind: "restate", tensor: name, name: `${name}.new`, shape, ...SAID }];
            case "replace":
              return [{ kind: "write", tensor: name, info: { ...info, name }, bytes, ...SAID }];
            case "beside": {
              const beside = { ...info, name: `${name}.note` };
              return [{ kind: "write", tensor: name, info: beside, bytes, ...SAID }];
            }
            default:
              return [];
          }
        });
        const edited = applyOperations(openModel(input), operations);
        await writeEdited(edited, { output, pool, force: true });
        const expected = new Map(tensors.flatMap((tensor, index) => {
          const { name } = tensor;
          switch (fates[index]) {
            case "remove":
              return [];
            case "rename":
              return [[`${name}.new`, { ...tensor, name: `${name}.new` }] as const];
            case "replace":
              return [[name, { ...info, name, data: bytes }] as const];
            case "beside":
              return [
                [name, tensor] as const,
                [`${name}.note`, { ...info, name: `${name}.note`, data: bytes }] as const,
              ];
            default:
              return [[name, tensor] as const];
          }
        }));
        const sorted = (map: Map<string, unknown>) => [...map].sort(([a], [b]) => a < b ? -1 : 1);
        assert.deepEqual(sorted(readModel(output)), sorted(expected));
        assert.deepEqual(openModel(output).metadata, { config: "{}" });
        if (operations.length === 0) assert.deepEqual(bytesOfFile(output), bytesOfFile(input));
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("coalesceCopies() joins copies that follow one another in both files, and no others", () => {
  const copy = (offsetBytes: number, outOffsetBytes: number, file = 0): CopyTask => ({
    kind: "copy",
    name: `${offsetBytes}`,
    file,
    offsetBytes,
    byteLength: 10,
    outOffsetBytes,
  });
  const joined = coalesceCopies([
    copy(0, 100),
    copy(10, 110),
    copy(20, 120),
    copy(30, 140), // a hole in the output
    copy(50, 150), // a hole in the input
    copy(60, 160, 1), // another file
  ]);
  assert.deepEqual(joined.map((task) => task.kind === "copy" && task.byteLength), [30, 10, 10, 10]);
});

Deno.test("writeEdited() moves an unchanged file in one run", () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const tensors = ["a", "b", "c"].map((name) =>
    tensorOf(name, "F32", [2], new Float32Array([1, 2]))
  );
  writeModel(input, tensors);
  const { outputs } = applyOperations(openModel(input), []);
  const copies = outputs.map(({ name, content, offsetBytes, byteLength }): CopyTask => {
    assert(content.kind === "copy");
    const { file } = content.source;
    const outOffsetBytes = offsetBytes;
    return {
      kind: "copy",
      name,
      file,
      offsetBytes: content.source.offsetBytes,
      byteLength,
      outOffsetBytes,
    };
  });
  assert.equal(coalesceCopies(copies).length, 1);
});

Deno.test("writeEdited() leaves nothing if it is refused or interrupted", async () => {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const input = join(folder.path, "in.safetensors");
  const output = join(folder.path, "out.safetensors");
  writeModel(input, [tensorOf("a", "F32", [2], new Float32Array([1, 2]))]);
  const edited = applyOperations(openModel(input), []);
  await assert.rejects(writeEdited(edited, { output: input, pool, force: true }), UnsupportedError);
  await assert.rejects(
    writeEdited(edited, { output, pool, signal: AbortSignal.abort() }),
    InterruptedError,
  );
  assert.deepEqual(readdirSync(folder.path), ["in.safetensors"]);
});

Deno.test("applyOperations() refuses two tensors of one name and tensors that are not there", () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  writeModel(input, ["a", "b"].map((name) => tensorOf(name, "U8", [1], new Uint8Array(1))));
  const source = openModel(input);
  const rename: Operation = { kind: "restate", tensor: "a", name: "b", shape: [1], ...SAID };
  assert.throws(() => applyOperations(source, [rename]), UnsupportedError);
  assert.throws(
    () => applyOperations(source, [{ kind: "remove", tensor: "z", ...SAID }]),
    RangeError,
  );
});
