import assert from "node:assert/strict";
import { UsageError } from "../../src/core/errors.ts";
import { LearnedRoundingConverter } from "../../src/library/learned_rounding_converter.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";

const LAYER = syntheticLayer({ rows: 96, cols: 128, seed: 8 });
const WEIGHT = { data: LAYER.weight, rows: 96, cols: 128 };

Deno.test("LearnedRoundingConverter.convert() gives codes, scales and what they stand for, on every grid", () => {
  for (const scaling of ["row", "block", "tensor"] as const) {
    for (const optimizer of ["original", "adamw", "radam"] as const) {
      const options = { scaling, optimizer, blockSize: 32, iterations: 30, minDirections: 12 };
      const converter = new LearnedRoundingConverter(options);
      const { codes, scale, scaleShape, dequantized, report } = converter.convert(WEIGHT);
      const [down = 1, across = 1] = scaleShape;
      assert.equal(scale.length, down * across);
      assert.ok(report.lossRatio! < 1 && report.loss === "projected", `${scaling} ${optimizer}`);
      codes.forEach((code, at) => {
        const row = Math.floor(at / 128),
          group = Math.floor(row * down / 96) * across +
            Math.floor((at % 128) * across / 128);
        assert.equal(dequantized[at], Math.fround(code * scale[group]!));
      });
    }
  }
});

Deno.test("LearnedRoundingConverter.convert() lowers the error of the outputs with a Hessian", () => {
  const x = LAYER.inputs(256, 1), hessian = new Float64Array(128 * 128);
  for (let t = 0; t < 256; t++) {
    for (let i = 0; i < 128; i++) {
      for (let j = 0; j < 128; j++) hessian[i * 128 + j]! += x[t * 128 + i]! * x[t * 128 + j]!;
    }
  }
  const lossOf = ({ dequantized }: { dequantized: Float32Array }) => {
    let loss = 0;
    for (let r = 0; r < 96; r++) {
      const e = LAYER.weight.subarray(r * 128, (r + 1) * 128).map((w, j) =>
        w - dequantized[r * 128 + j]!
      );
      for (let i = 0; i < 128; i++) {
        for (let j = 0; j < 128; j++) loss += e[i]! * e[j]! * hessian[i * 128 + j]!;
      }
    }
    return Math.sqrt(loss);
  };
  const plain = new LearnedRoundingConverter({ scaling: "row", iterations: 0 });
  const learned = new LearnedRoundingConverter({ scaling: "row", iterations: 200 });
  const before = lossOf(plain.convert(WEIGHT)), after = learned.convert(WEIGHT, { hessian });
  assert.equal(after.report.loss, "output");
  assert.ok(lossOf(after) < 0.8 * before, `${lossOf(after) / before}`);
  const told = after.report.lossRatio!, seen = lossOf(after) / before;
  assert.ok(Math.abs(seen - told) < 1e-3, `${seen}, reported ${told}`);
});

Deno.test("LearnedRoundingConverter refuses bad options, shapes and values, naming them", () => {
  assert.throws(() => new LearnedRoundingConverter({ lr: NaN }), UsageError);
  assert.throws(
    () => new LearnedRoundingConverter({ minDirections: 9, maxDirections: 8 }),
    /Cannot use minDirections 9 with maxDirections 8/,
  );
  const converter = new LearnedRoundingConverter();
  assert.throws(() => converter.convert(WEIGHT), /\[96, 128\] is not divisible into 128 x 128/);
  const rows = new LearnedRoundingConverter({ scaling: "row" });
  assert.throws(() => rows.convert({ ...WEIGHT, rows: 97 }), /12288 values are not \[97, 128\]/);
  const data = LAYER.weight.slice();
  data[5] = NaN;
  assert.throws(() => rows.convert({ ...WEIGHT, data }), /1 values are not finite.*index 5/);
  assert.throws(
    () => rows.convert(WEIGHT, { hessian: new Float64Array(4) }),
    /has 4 elements, needs/,
  );
});
