import assert from "node:assert/strict";
import { join } from "node:path";
import { NO_LAYER_FLAGS, readLayerFlags } from "../../src/config/layer_overrides.ts";
import { prepare } from "../../src/convert/prepare.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

/** Notes of a conversion of two layers of 256 and 512 columns. */
function notesOf(changes: Partial<ConvertOptions>): string {
  using folder = temporaryFolder();
  const path = join(folder.path, "m.safetensors");
  writeModel(
    path,
    [256, 512].map((cols) =>
      tensorOf(`blocks.${cols}.lin.weight`, "F32", [8, cols], new Float32Array(8 * cols).fill(1))
    ),
  );
  return prepare(path, { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...changes }).notes
    .join("\n");
}

Deno.test("prepare() says that segments have no effect if no layer is wide enough", () => {
  assert.match(
    notesOf({ segments: { threshold: 1024, count: 8 } }),
    /--quip-checkpointed has no effect: no quantized layer has 1024 columns.* widest has 512/,
  );
  assert.doesNotMatch(notesOf({ segments: { threshold: 512, count: 8 } }), /no effect|not cut/);
  // A layer that is one rotation group cannot be cut.
  assert.match(
    notesOf({ segments: { threshold: 256, count: 8 } }),
    /1 layers are not cut into segments.*blocks.256.lin.weight/,
  );
  assert.doesNotMatch(notesOf({}), /segments|--quip-checkpointed/);
});

Deno.test("prepare() says that a fallback has no effect if nothing is kept that it could convert", () => {
  const flags = readLayerFlags({ ...NO_LAYER_FLAGS, fallback: "int8" });
  const layers = { config: null, flags, fullmatch: false };
  assert.match(notesOf({ layers }), /--fallback int8 has no effect: no layer is kept/);
  assert.doesNotMatch(
    notesOf({ layers, excludeLayers: /blocks.256/ }),
    /--fallback int8 has no effect/,
  );
});
