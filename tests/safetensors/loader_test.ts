import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { FormatError } from "../../src/core/errors.ts";
import { UnifiedSafetensorsLoader } from "../../src/safetensors/loader.ts";
import { safetensors, TempFolder, tensor } from "../support/header_fixtures.ts";

const FILE = safetensors(
  [tensor("layer.weight", "F32", [1, 2]), tensor("layer.bias", "F16", [2]), tensor("s", "I8", [])],
  { format: "pt" },
);

for (const lowMemory of [false, true]) {
  const mode = lowMemory ? "low-memory" : "standard";

  Deno.test(`UnifiedSafetensorsLoader gives names, metadata and shapes in ${mode} mode`, () => {
    using folder = new TempFolder();
    const path = folder.write("m.safetensors", FILE);
    using loader = new UnifiedSafetensorsLoader(path, { lowMemory });
    assert.deepEqual(loader.keys(), ["layer.weight", "layer.bias", "s"]);
    assert.deepEqual(loader.metadata(), { format: "pt" });
    assert.deepEqual(loader.getShape("layer.weight"), [1, 2]);
    assert.equal(loader.getNdim("layer.weight"), 2);
    assert.equal(loader.getNdim("s"), 0);
    assert.equal(loader.getDtype("layer.bias"), "F16");
  });

  Deno.test(`UnifiedSafetensorsLoader.getTensor() gives info and bytes in ${mode} mode`, () => {
    using folder = new TempFolder();
    const path = folder.write("m.safetensors", FILE);
    using loader = new UnifiedSafetensorsLoader(path, { lowMemory });
    assert.deepEqual(loader.getTensor("layer.bias"), {
      name: "layer.bias",
      dtype: "F16",
      shape: [2],
      data: Uint8Array.of(1, 2, 3, 4),
    });
    assert.deepEqual([...loader.getTensor("s").data], [1]);
    loader.markProcessed("layer.bias");
    assert.deepEqual([...loader.getTensor("layer.bias").data], [1, 2, 3, 4]);
  });

  Deno.test(`UnifiedSafetensorsLoader reads shards as one model in ${mode} mode`, () => {
    using folder = new TempFolder();
    folder.write("a.safetensors", safetensors([tensor("x", "U8", [2])]));
    folder.write("b.safetensors", safetensors([tensor("y", "U8", [3])]));
    const index = { weight_map: { y: "b.safetensors", x: "a.safetensors" } };
    folder.write("m.safetensors.index.json", JSON.stringify(index));
    using loader = new UnifiedSafetensorsLoader(folder.path, { lowMemory });
    assert.deepEqual(loader.keys(), ["x", "y"]);
    assert.deepEqual([...loader.getTensor("y").data], [1, 2, 3]);
    assert.deepEqual(loader.metadata(), {});
  });

  Deno.test(`UnifiedSafetensorsLoader names the nearest tensor for an unknown one in ${mode} mode`, () => {
    using folder = new TempFolder();
    const path = folder.write("m.safetensors", FILE);
    using loader = new UnifiedSafetensorsLoader(path, { lowMemory });
    const calls = [loader.getTensor, loader.getShape, loader.getNdim, loader.getDtype];
    for (const call of [...calls, loader.markProcessed]) {
      assert.throws(
        () => call.call(loader, "layer.wieght"),
        /No tensor "layer.wieght" in ".*": did you mean "layer.weight"\?/,
      );
    }
  });

  Deno.test(`UnifiedSafetensorsLoader refuses everything after close() in ${mode} mode`, () => {
    using folder = new TempFolder();
    const loader = new UnifiedSafetensorsLoader(folder.write("m.safetensors", FILE), { lowMemory });
    loader.close();
    loader.close();
    assert.throws(() => loader.keys(), /it is closed/);
    assert.throws(() => loader.metadata(), /it is closed/);
    assert.throws(() => loader.getTensor("s"), /it is closed/);
  });
}

Deno.test("UnifiedSafetensorsLoader holds its tensors in standard mode until marked as processed", () => {
  using folder = new TempFolder();
  const path = folder.write("m.safetensors", FILE);
  using loader = new UnifiedSafetensorsLoader(path);
  rmSync(path);
  const first = loader.getTensor("s");
  assert.equal(loader.getTensor("s").data, first.data);
  loader.markProcessed("s");
  assert.throws(() => loader.getTensor("s"), /Cannot read tensor "s" of .*no such file/);
});

Deno.test("UnifiedSafetensorsLoader reads nothing but headers in low-memory mode until asked", () => {
  using folder = new TempFolder();
  const path = folder.write("m.safetensors", FILE);
  using loader = new UnifiedSafetensorsLoader(path, { lowMemory: true });
  rmSync(path);
  assert.throws(() => loader.getTensor("s"), /no such file/);
  assert.deepEqual(loader.getShape("s"), []);
});

Deno.test("UnifiedSafetensorsLoader says that a model has no tensors", () => {
  using folder = new TempFolder();
  using loader = new UnifiedSafetensorsLoader(folder.write("m.safetensors", safetensors([])));
  assert.throws(() => loader.getTensor("a"), /it has no tensors/);
});

Deno.test("UnifiedSafetensorsLoader refuses a damaged file when it is made", () => {
  using folder = new TempFolder();
  const path = folder.write("m.safetensors", FILE.slice(0, -1));
  assert.throws(() => new UnifiedSafetensorsLoader(path, { lowMemory: true }), FormatError);
});
