import assert from "node:assert/strict";
import {
  layoutNames,
  QuantizedTensor,
  registerLayout,
} from "../../src/library/quantized_tensor.ts";
import { QualityReporter } from "../../src/library/quality_reporter.ts";
import { uniform } from "../kernels/values.ts";

const next = uniform(4);
const W = Float32Array.from({ length: 32 * 64 }, () => next() - 0.5);

function errorOf(layout: string, options: Partial<QuantizedTensor["options"]> = {}) {
  const tensor = QuantizedTensor.fromFloat(W, layout, { rows: 32, cols: 64, ...options });
  const { relativeError } = new QualityReporter().addLayer("w", W, tensor.dequantize());
  return { relativeError, shape: tensor.parts.scaleShape };
}

Deno.test("QuantizedTensor.dequantize() gives back the weight within rounding, in every layout", () => {
  const cases = [
    ["int8_tensorwise", {}, [32, 1]],
    ["int8_tensorwise", { isPerTensor: true }, []],
    ["int8_tensorwise", { convrotGroupSize: 16 }, [32, 1]],
    ["int8_axiswise", {}, [32]],
    ["int8_blockwise", { blockSize: 16 }, [2, 4]],
  ] as const;
  for (const [layout, options, shape] of cases) {
    const found = errorOf(layout, options);
    assert.deepEqual(found.shape, shape);
    assert.ok(
      found.relativeError > 0 && found.relativeError < 0.02,
      `${layout}: ${found.relativeError}`,
    );
  }
});

Deno.test("QuantizedTensor.fromFloat() refuses what cannot be quantized, and names what is meant", () => {
  const sizes = { rows: 2, cols: 2 };
  assert.throws(() => QuantizedTensor.fromFloat(new Float32Array(4), "int8_tensorwide", sizes), {
    message: /"int8_tensorwide": it is not registered; did you mean "int8_tensorwise"/,
  });
  assert.throws(
    () => QuantizedTensor.fromFloat(Float32Array.of(1, NaN, 0, 0), "int8_tensorwise", sizes),
    {
      message: "Cannot quantize: value 1 is NaN",
    },
  );
  assert.throws(() => QuantizedTensor.fromFloat(new Float32Array(3), "int8_tensorwise", sizes), {
    message: "Cannot quantize: 3 values, [2, 2] needs 4",
  });
});

Deno.test("registerLayout() adds a layout, once", () => {
  const layout = {
    quantize: (w: Float32Array) => ({
      codes: Int8Array.from(w),
      scales: new Float32Array(0),
      scaleShape: [0],
    }),
    dequantize: ({ codes }: { codes: Int8Array }) => Float32Array.from(codes),
  };
  registerLayout("whole_numbers", layout);
  assert.ok(layoutNames().includes("whole_numbers"));
  const tensor = QuantizedTensor.fromFloat(Float32Array.of(3, -4), "whole_numbers", {
    rows: 1,
    cols: 2,
  });
  assert.deepEqual([...tensor.dequantize()], [3, -4]);
  assert.throws(() => registerLayout("whole_numbers", layout), { message: /the name is taken/ });
});

Deno.test("QualityReporter reports the worst layer first, and marks those below the threshold", () => {
  const reporter = new QualityReporter({ thresholdDb: 20 });
  reporter.addLayer("good", Float32Array.of(1, 2), Float32Array.of(1, 2.01));
  reporter.addLayer("bad", Float32Array.of(1, 2), Float32Array.of(1, 1.5));
  const { layers, overall } = reporter.report();
  assert.deepEqual(layers.map(({ name, isLow }) => [name, isLow]), [["bad", true], [
    "good",
    false,
  ]]);
  assert.equal(overall!.mse, (0.25 + (2 - Math.fround(2.01)) ** 2) / 4);
  assert.match(String(reporter), /13.01 dB .* bad {2}\(below 20 dB\)\n.* good\n.* all 2 layers$/);
  assert.throws(() => reporter.addLayer("x", new Float32Array(1), new Float32Array(2)), RangeError);
  assert.equal(String(new QualityReporter()), "No layer was added.");
});
