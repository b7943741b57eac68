import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  convertToInt8,
  GPTQInt8Converter,
  QuIPInt8Converter,
  quipInt8Matmul,
  saveTensors,
  UnifiedSafetensorsLoader,
} from "../../mod.ts";
import { fillNormal, randomFor } from "../../src/core/rng.ts";
import { temporaryFolder } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

const ROWS = 48, COLS = 256, NAME = "blocks.0.lin.weight";

function normal(count: number, name: string): Float32Array {
  const values = new Float32Array(count);
  fillNormal(values, randomFor(1, name));
  return values;
}

Deno.test("loader -> converter -> operation -> file takes no helper, and the file is that of a conversion", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const bias = { dtype: "F32", shape: [ROWS], data: normal(ROWS, "bias") } as const;
  await saveTensors(at("model.safetensors"), {
    [NAME]: { dtype: "F32", shape: [ROWS, COLS], data: normal(ROWS * COLS, "weight") },
    "blocks.0.lin.bias": bias,
  }, { metadata: { format: "pt" } });
  using loader = new UnifiedSafetensorsLoader(at("model.safetensors"));
  const converted = new GPTQInt8Converter().convert(loader.getTensor(NAME));
  assert.equal(quipInt8Matmul(normal(COLS, "x"), converted).length, ROWS);
  await saveTensors(at("int8.safetensors"), {
    [NAME]: converted,
    "blocks.0.lin.bias": loader.getTensor("blocks.0.lin.bias"),
  }, { metadata: loader.metadata() });
  await convertToInt8({
    input: at("model.safetensors"),
    outputPath: at("whole.safetensors"),
    preset: "none",
    method: "gptq",
  });
  using one = new UnifiedSafetensorsLoader(at("int8.safetensors"));
  using other = new UnifiedSafetensorsLoader(at("whole.safetensors"));
  assert.deepEqual(one.keys().toSorted(), other.keys().toSorted());
  for (const key of one.keys()) assert.deepEqual(one.getTensor(key), other.getTensor(key), key);
  const { code, stdout } = await runCli(["verify", at("int8.safetensors"), "--json"]);
  assert.equal(code, 0, stdout);
});

Deno.test("saveTensors() refuses what it cannot write right, and leaves nothing then", async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "m.safetensors");
  const data = normal(ROWS * COLS, "weight");
  const weight = { data, rows: ROWS, cols: COLS };
  const values = { dtype: "F32", shape: [ROWS, COLS], data } as const;
  const stored = new QuIPInt8Converter({ storeTransformed: true }).convert(weight);
  const plain = new GPTQInt8Converter().convert(weight);
  await assert.rejects(
    saveTensors(path, { [NAME]: stored }),
    /stored transformed are written by `convertToInt8`/,
  );
  await assert.rejects(saveTensors(path, { "blocks.0.lin": plain }), /named like the weight/);
  await assert.rejects(
    saveTensors(path, { a: { ...values, shape: [ROWS] } }),
    /takes 192 bytes, its values/,
  );
  await assert.rejects(
    saveTensors(join(folder.path, "m.bin"), { a: values }),
    /must end in .safetensors/,
  );
  assert.deepEqual(readdirSync(folder.path), []);
  await saveTensors(path, { a: values });
  const before = readFileSync(path);
  await assert.rejects(saveTensors(path, { b: values }), /it exists; `--force` replaces it/);
  assert(readFileSync(path).equals(before));
  await saveTensors(path, { b: values }, { force: true });
});
