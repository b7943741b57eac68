/** What GPTQ must gain on layers with outliers, on inputs that calibration has not seen. */

import assert from "node:assert/strict";
import { withScratch } from "../../src/linalg/context.ts";
import { matrix, transpose } from "../../src/linalg/matrix.ts";
import type { LayerInputData } from "../../src/library/convert_weight.ts";
import { GPTQInt8Converter, type GPTQInt8Options } from "../../src/library/gptq_int8_converter.ts";
import { QuantizedTensor } from "../../src/library/quantized_tensor.ts";
import { put, wasmContext } from "../linalg/contexts.ts";
import { type SyntheticLayer, syntheticLayer } from "../support/synthetic_layer.ts";

const ROWS = 512, COLS = 512, GROUP = 256, BLOCK = 128;
const LAYERS = [1, 2].map((seed) => syntheticLayer({ rows: ROWS, cols: COLS, seed }));
const CALIBRATION = 1, HELD_OUT = 2;
const { memory, kernels } = wasmContext;

/** Energy of the outputs that weights changed as from `layer` to `dequantized` add. */
function outputEnergy(layer: SyntheticLayer, dequantized: Float32Array): number {
  const count = 128, errors = layer.weight.map((w, i) => w - dequantized[i]!);
  return withScratch(wasmContext, () => {
    const x = put(memory, layer.inputs(count, HELD_OUT)), w = put(memory, errors);
    const out = memory.f32(count * ROWS), by = transpose(matrix(w, ROWS, COLS));
    kernels.gemmF32(matrix(out, count, ROWS), matrix(x, count, COLS), by, "set");
    return out.reduce((sum, y) => sum + y * y, 0);
  });
}

function nearest(layer: SyntheticLayer, { scaling, convrot }: GPTQInt8Options): Float32Array {
  const options = {
    rows: ROWS,
    cols: COLS,
    blockSize: BLOCK,
    isPerTensor: scaling === "tensor",
    convrotGroupSize: convrot === GROUP ? GROUP : 0,
  };
  const layout = scaling === "block" ? "int8_blockwise" : "int8_tensorwise";
  return QuantizedTensor.fromFloat(layer.weight, layout, options).dequantize();
}

/** Geometric mean over the layers of GPTQ's error relative to that of rounding to nearest. */
function ratioOf(
  options: GPTQInt8Options,
  inputsOf: (layer: SyntheticLayer) => LayerInputData,
): number {
  const converter = new GPTQInt8Converter({ blockSize: BLOCK, ...options });
  const logs = LAYERS.map((layer) => {
    const weight = { data: layer.weight, rows: ROWS, cols: COLS };
    const { dequantized } = converter.convert(weight, inputsOf(layer));
    const plain = outputEnergy(layer, nearest(layer, options));
    return Math.log(outputEnergy(layer, dequantized) / plain) / 2;
  });
  return Math.exp(logs.reduce((sum, x) => sum + x, 0) / logs.length);
}

const fromInputs = (layer: SyntheticLayer, count: number): LayerInputData => ({
  activations: layer.inputs(count, CALIBRATION),
});

function fromMaxima(layer: SyntheticLayer): LayerInputData {
  const x = layer.inputs(512, CALIBRATION), channelMax = new Float32Array(COLS);
  x.forEach((value, i) => channelMax[i % COLS] = Math.max(channelMax[i % COLS]!, Math.abs(value)));
  return { channelMax };
}

const ROW: GPTQInt8Options = { convrot: "off" }, CONVROT: GPTQInt8Options = { convrot: GROUP };

const CASES: readonly [
  string,
  number,
  GPTQInt8Options,
  (layer: SyntheticLayer) => LayerInputData,
][] = [
  ["on a row grid", 0.56, ROW, (layer) => fromInputs(layer, 1024)],
  ["on blocks", 0.6, { scaling: "block" }, (layer) => fromInputs(layer, 1024)],
  ["with one scale", 0.43, { scaling: "tensor" }, (layer) => fromInputs(layer, 1024)],
  ["after rotation", 0.46, CONVROT, (layer) => fromInputs(layer, 1024)],
  ["after rotation with 64 inputs", 0.56, CONVROT, (layer) => fromInputs(layer, 64)],
  ["after rotation with channel maxima", 0.68, CONVROT, fromMaxima],
  [
    "after rotation with inputs of another layer",
    1.1,
    CONVROT,
    () => fromInputs(syntheticLayer({ rows: 1, cols: COLS, seed: 99 }), 1024),
  ],
];

for (const [name, most, options, inputsOf] of CASES) {
  Deno.test(`GPTQ ${name} has at most ${most} of the output error of rounding to nearest`, () => {
    const ratio = ratioOf(options, inputsOf);
    assert(ratio <= most, `${ratio}, at most ${most}`);
  });
}
