import assert from "node:assert/strict";
import fc from "fast-check";
import { fittedRows, heldOutRows, measuringInputs } from "../../src/calibration/layer_inputs.ts";
import { openCalibration, ORIGINS_METADATA } from "../../src/calibration/calibration.ts";
import { join } from "node:path";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

Deno.test("fittedRows() holds out an eighth of the rows, at most 64, unless a share is given", () => {
  const fitted = (rows: number, holdout: number | null) => fittedRows({ rows }, holdout);
  assert.equal(fitted(1, null), 1);
  assert.equal(fitted(7, null), 7);
  assert.equal(fitted(64, null), 56);
  assert.equal(fitted(1024, null), 960);
  assert.equal(fitted(1024, 0), 1024);
  assert.equal(fitted(1024, 0.25), 768);
  assert.equal(fitted(2, 0.9), 1);
});

Deno.test("fittedRows() holds out whole origins if they are small enough", () => {
  const fitted = (...origins: number[]) => {
    const rows = origins.reduce((a, b) => a + b, 0);
    return rows - fittedRows({ rows, origins }, null);
  };
  assert.equal(fitted(100, 100, 100, 100, 100), 100, "64 are wanted, 100 are nearest");
  assert.equal(fitted(50, 50, 50, 50, 50, 10, 10), 20 + 0, "31 are wanted, 20 are nearest");
  assert.equal(fitted(200, 200), 50, "half of the rows would be too many");
  assert.equal(fitted(400), 50, "one origin");
});

Deno.test("heldOutRows() and fittedRows() share out all rows, whatever their origins", () => {
  const share = fc.option(fc.double({ min: 0, max: 0.9, noNaN: true }));
  fc.assert(fc.property(
    fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 9 }),
    share,
    fc.integer({ min: 1, max: 200 }),
    (origins, holdout, most) => {
      const rows = origins.reduce((a, b) => a + b, 0);
      const fitted = fittedRows({ rows, origins }, holdout);
      assert.ok(fitted >= 1 && fitted <= rows);
      const heldOut = heldOutRows({ rows, origins }, holdout, most);
      if (heldOut === null) return assert.equal(fitted, rows);
      assert.equal(heldOut.firstRow, fitted);
      assert.ok(heldOut.rows >= 1 && heldOut.rows <= most);
      assert.ok(heldOut.firstRow + (heldOut.rows - 1) * heldOut.rowStep < rows);
    },
  ));
});

Deno.test("openCalibration() reads the origins of rows, and refuses counts that are not theirs", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "c.safetensors");
  const tensors = [tensorOf("a.activations", "F32", [40, 2], new Float32Array(80))];
  const write = (text: string) => writeModel(path, tensors, { [ORIGINS_METADATA]: text });
  write(JSON.stringify({ a: [30, 0, 6, 4], unknown: [7] }));
  const calibration = openCalibration(path);
  const found = measuringInputs(calibration, "a", { fileOffset: 0, holdout: null })!;
  assert.deepEqual([found.inputs.firstRow, found.inputs.rows, found.on], [36, 4, "held-out rows"]);
  for (
    const [text, rule] of [
      ["[1, 2]", /no JSON object of layers and counts of rows/],
      ["{", /no JSON object of layers and counts of rows/],
      ['{"a": [20, -1]}', /no JSON object of layers and counts of rows/],
      ['{"a": [20, 10]}', /counts 30 rows of "a", which has 40/],
    ] as const
  ) {
    write(text);
    assert.throws(() => openCalibration(path), { name: "FormatError", message: rule });
  }
});
