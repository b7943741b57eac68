import { Buffer } from "node:buffer";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FormatError, UnsupportedError } from "../../src/core/errors.ts";
import { loadLoraForMerging, loadLoraTensors } from "../../src/lora/load_lora.ts";
import { mergeLoraIntoWeight } from "../../src/lora/merge.ts";

/** Writes a safetensors file of F32, F16 or BF16 tensors given by their raw 16- or 32-bit words. */
function withFile(
  tensors: Record<string, { dtype: "F32" | "BF16"; shape: number[]; values: number[] }>,
  body: (path: string) => void,
): void {
  const folder = mkdtempSync(join(tmpdir(), "lora-"));
  try {
    const chunks: Uint8Array[] = [];
    const header: Record<string, unknown> = {};
    let offset = 0;
    for (const [name, { dtype, shape, values }] of Object.entries(tensors)) {
      const f32 = Float32Array.from(values);
      const words = dtype === "F32"
        ? f32
        : Uint16Array.from(new Uint32Array(f32.buffer), (bits) => bits >>> 16);
      const bytes = new Uint8Array(words.buffer);
      header[name] = { dtype, shape, data_offsets: [offset, offset + bytes.length] };
      offset += bytes.length;
      chunks.push(bytes);
    }
    const text = new TextEncoder().encode(JSON.stringify(header));
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true);
    const path = join(folder, "lora.safetensors");
    writeFileSync(path, Buffer.concat([length, text, ...chunks]));
    body(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const PAIR = {
  "a.q.lora_down.weight": { dtype: "BF16" as const, shape: [2, 3], values: [1, 2, 3, 4, 5, 6] },
  "a.q.lora_up.weight": { dtype: "F32" as const, shape: [2, 2], values: [1, 0, 0, 1] },
};

Deno.test("loadLoraForMerging() gives pairs that mergeLoraIntoWeight() takes", () => {
  const alpha = { dtype: "F32" as const, shape: [], values: [4] };
  withFile({ ...PAIR, "a.q.alpha": alpha }, (path) => {
    const pairs = loadLoraForMerging(path);
    assert.deepEqual([...pairs.keys()], ["a.q"]);
    const pair = pairs.get("a.q")!;
    assert.deepEqual([pair.alpha, pair.rank, pair.rows, pair.cols], [4, 2, 2, 3]);
    const merged = mergeLoraIntoWeight(new Float32Array(6), { ...pair, scale: 0.5 });
    assert.deepEqual([...merged], [1, 2, 3, 4, 5, 6]);
  });
});

Deno.test("loadLoraTensors() gives the input side of each pair", () => {
  withFile(PAIR, (path) => {
    const { data, rows, cols } = loadLoraTensors(path).get("a.q")!;
    assert.deepEqual([rows, cols, ...data], [2, 3, 1, 2, 3, 4, 5, 6]);
  });
});

Deno.test("loadLoraForMerging() names what it cannot read", () => {
  const half = { "a.q.lora_down.weight": PAIR["a.q.lora_down.weight"] };
  withFile(half, (path) => {
    assert.throws(() => loadLoraForMerging(path), (error: unknown) => {
      assert.ok(error instanceof FormatError);
      assert.match(error.message, /"a\.q": the other half of the pair, up \(B\), is missing/);
      return true;
    });
  });
  const nan = { "a.q.alpha": { dtype: "F32" as const, shape: [], values: [NaN] } };
  withFile({ ...PAIR, ...nan }, (path) => {
    assert.throws(() => loadLoraForMerging(path), /alpha is NaN, a finite number is needed/);
  });
  const dora = { "a.q.dora_scale": { dtype: "F32" as const, shape: [2, 1], values: [1, 1] } };
  withFile({ ...PAIR, ...dora }, (path) => {
    assert.throws(() => loadLoraForMerging(path), UnsupportedError);
    assert.equal(loadLoraTensors(path).size, 1);
  });
});
