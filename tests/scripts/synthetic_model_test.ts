import { deepStrictEqual, notDeepStrictEqual, ok, strictEqual } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PlainFile } from "../../scripts/support/plain_file.ts";
import {
  dequantized,
  errorSums,
  rotationGroup,
  roundToNearest,
  sqnrDb,
} from "../../scripts/support/plain_math.ts";
import { detect } from "../../src/presets/detect.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { TempFolder } from "../support/header_fixtures.ts";
import { writeSyntheticModel } from "../support/synthetic_model.ts";
import {
  dataBytes,
  fluxLikeOfBytes,
  fluxLikeTensors,
  manyLayers,
  MODEL_SIZES,
  ODD_COLUMNS,
  weight,
} from "../support/synthetic_shapes.ts";

Deno.test("writeSyntheticModel() writes a file that reads as the model that was asked for", () => {
  using folder = new TempFolder();
  const path = join(folder.path, "tiny.safetensors");
  const tensors = fluxLikeTensors(MODEL_SIZES.tiny);
  const bytes = writeSyntheticModel(path, tensors, { metadata: { note: "x" } });
  strictEqual(readFileSync(path).length, bytes);
  const model = openModel(path);
  deepStrictEqual(model.metadata, { note: "x" });
  deepStrictEqual(
    new Map(model.tensors.map(({ name, dtype, shape }) => [name, { dtype, shape }])),
    new Map(tensors.map(({ name, dtype, shape }) => [name, { dtype, shape }])),
  );
});

Deno.test("writeSyntheticModel() gives the same bytes for the same seed only", () => {
  using folder = new TempFolder();
  const write = (name: string, seed: number): Uint8Array => {
    const path = join(folder.path, name);
    writeSyntheticModel(path, manyLayers(3), { seed });
    return readFileSync(path);
  };
  const first = write("a", 7);
  deepStrictEqual(write("b", 7), first);
  notDeepStrictEqual(write("c", 8), first);
});

Deno.test("writeSyntheticModel() makes weights with the quality of real ones", () => {
  using folder = new TempFolder();
  const path = join(folder.path, "layers.safetensors");
  const shapes = [[256, 1024], [256, 1024], [256, 2048], [128, 3072]] as const;
  writeSyntheticModel(path, shapes.map(([n, k], i) => weight(`blocks.${i}.linear`, n, k)));
  using file = new PlainFile(path);
  const means = [false, true].map((rotate) => {
    const all = shapes.map(([rows, cols], index) => {
      const w = file.rows(
        `blocks.${index}.linear.weight`,
        Array.from({ length: rows }, (_, i) => i),
      );
      const codes = roundToNearest(w, rotate ? rotationGroup(cols) : 0);
      return sqnrDb(errorSums(w.values, dequantized(codes)));
    });
    return all.reduce((sum, db) => sum + db, 0) / all.length;
  });
  const [plain, rotated] = means as [number, number];
  ok(plain > 30.5 && plain < 34, `plain rounding is at ${plain} dB`);
  ok(rotated > 41 && rotated < 43, `rotated rounding is at ${rotated} dB`);
});

Deno.test("fluxLikeTensors() is taken for FLUX.2 and has what real files mix in", () => {
  for (const size of Object.values(MODEL_SIZES)) {
    const tensors = fluxLikeTensors(size);
    strictEqual(detect(tensors).family, "flux2");
    strictEqual(new Set(tensors.map((tensor) => tensor.name)).size, tensors.length);
    deepStrictEqual(
      new Set(tensors.map((tensor) => tensor.dtype)),
      new Set(["BF16", "F32", "F16"]),
    );
    ok(tensors.some((tensor) => tensor.shape[1] === ODD_COLUMNS));
    ok(tensors.some((tensor) => tensor.name.endsWith("embedding.weight")));
    ok(tensors.some((tensor) => tensor.name.endsWith(".bias")));
  }
});

Deno.test("fluxLikeOfBytes() reaches the size by whole blocks", () => {
  const bytes = dataBytes(fluxLikeOfBytes(MODEL_SIZES.bench, 6e9));
  ok(bytes >= 6e9 && bytes < 6.3e9, `${bytes} bytes`);
  strictEqual(
    dataBytes(fluxLikeOfBytes(MODEL_SIZES.tiny, 0)),
    dataBytes(fluxLikeTensors(MODEL_SIZES.tiny)),
  );
});
