import { deepStrictEqual, strictEqual } from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openModel, TensorReader } from "../../src/safetensors/reader.ts";
import { headerFacts, loadHeader, writeSparseModel } from "../support/header_files.ts";

function inFolder(test: (dir: string) => void): void {
  const dir = mkdtempSync(join(tmpdir(), "sparse-"));
  try {
    test(dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

Deno.test("writeSparseModel() writes a valid file of full size that takes no room", () => {
  inFolder((dir) => {
    const path = writeSparseModel("flux2-dev", dir);
    const { size, blocks } = statSync(path);
    strictEqual(size > 64e9, true);
    strictEqual(blocks * 512 < 1e6, true, `${blocks} blocks on disk`);
    const byName = (a: { name: string }, b: { name: string }) => a.name < b.name ? -1 : 1;
    deepStrictEqual(
      openModel(path).tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })).sort(
        byName,
      ),
      loadHeader("flux2-dev").sort(byName),
    );
  });
});

Deno.test("writeSparseModel() fills the markers with the JSON that the originals hold", () => {
  const rotated = { format: "int8_tensorwise", convrot: true, convrot_groupsize: 256 };
  const cases: readonly [string, unknown][] = [
    ["z-image-turbo-int8-convrot-official", rotated],
    ["flux1-dev-int8-convrot-community", { ...rotated, per_row: true }],
    ["flux2-klein-9b-int8-community-scalar", { format: "int8_tensorwise" }],
  ];
  inFolder((dir) => {
    for (const [name, expected] of cases) {
      const source = openModel(writeSparseModel(name, dir));
      using reader = new TensorReader(source);
      const markers = source.tensors.filter((tensor) => tensor.name.endsWith(".comfy_quant"));
      strictEqual(markers.length, headerFacts(name).quantized);
      for (const marker of markers.slice(0, 3)) {
        deepStrictEqual(JSON.parse(new TextDecoder().decode(reader.read(marker))), expected, name);
      }
    }
  });
});

Deno.test("writeSparseModel() lists FP8 layers without markers in the metadata", () => {
  inFolder((dir) => {
    const { metadata } = openModel(writeSparseModel("flux2-dev-fp8mixed", dir));
    const { layers } = JSON.parse(metadata?._quantization_metadata ?? "{}");
    strictEqual(Object.keys(layers).length, 128);
  });
});
