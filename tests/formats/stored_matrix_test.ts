import assert from "node:assert/strict";
import { join } from "node:path";
import { FormatError, UnsupportedError } from "../../src/core/errors.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { storedMatrix } from "../../src/formats/stored_matrix.ts";
import type { MatrixSource } from "../../src/formats/matrix_source.ts";
import { findQuantizedLayers } from "../../src/formats/quant_layers.ts";
import { openModel, TensorReader } from "../../src/safetensors/reader.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { markerTensor } from "../support/encode.ts";

/** Reads tensor `name` of a file with these tensors as a matrix. */
function matrixOf(tensors: Tensor[], name = "l.weight", fileOffset?: number): MatrixSource {
  using folder = temporaryFolder();
  const path = join(folder.path, "m.safetensors");
  writeModel(path, tensors);
  const model = openModel(path);
  using reader = new TensorReader(model);
  const layers = findQuantizedLayers(model, (tensor) => reader.read(tensor));
  const tensor = model.tensors.find((candidate) => candidate.name === name)!;
  const layer = layers.find(({ weightName }) => weightName === name) ?? null;
  return storedMatrix(model, tensor, layer, fileOffset === undefined ? {} : { fileOffset });
}

const count = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);
const codes = (shape: number[]) => tensorOf("l.weight", "I8", shape, new Int8Array(count(shape)));
const scales = (shape: number[], name = "weight_scale") =>
  tensorOf(`l.${name}`, "F32", shape, new Float32Array(count(shape)).fill(1));

/** The rectangle that one scale covers. */
function groupOf(tensors: Tensor[]): [number, number] | null {
  const { scale } = matrixOf(tensors);
  return scale === null ? null : [scale.groupRows, scale.groupCols];
}

Deno.test("storedMatrix() takes every spelling of int8_tensorwise scales", () => {
  const marker = markerTensor("l", { format: "int8_tensorwise" });
  for (const shape of [[], [1], [1, 1]]) {
    assert.deepEqual(groupOf([codes([4, 8]), scales(shape), marker]), [4, 8]);
  }
  for (const shape of [[4, 1], [4]]) {
    assert.deepEqual(groupOf([codes([4, 8]), scales(shape), marker]), [1, 8]);
  }
});

Deno.test("storedMatrix() takes the tiles and row groups of int8_blockwise", () => {
  const marker = (size: number) =>
    markerTensor("l", { format: "int8_blockwise", group_size: size });
  assert.deepEqual(groupOf([codes([4, 8]), scales([2, 4]), marker(2)]), [2, 2]);
  assert.deepEqual(groupOf([codes([4, 8]), scales([4, 4, 1]), marker(2)]), [1, 2]);
  assert.throws(() => matrixOf([codes([4, 8]), scales([2, 4]), marker(4)]), FormatError);
});

Deno.test("storedMatrix() refuses scales that do not fit, naming scale and weight", () => {
  const marker = markerTensor("l", { format: "int8_tensorwise" });
  for (const shape of [[1, 4], [3], [8], [2, 4], [4, 2, 1]]) {
    assert.throws(() => matrixOf([codes([4, 8]), scales(shape), marker]), {
      name: "FormatError",
      message: new RegExp(
        `"l\\.weight_scale": scales of shape \\[${shape.join(", ")}\\] do not fit .*\\[4, 8\\]`,
      ),
    });
  }
});

Deno.test("storedMatrix() reads expert banks [E, N, K] as E x N rows", () => {
  const marker = markerTensor("l", { format: "int8_tensorwise" });
  const matrix = matrixOf([codes([3, 2, 8]), scales([3, 2, 1]), marker]);
  assert.deepEqual([matrix.rows, matrix.cols], [6, 8]);
  assert.deepEqual([matrix.scale!.groupRows, matrix.scale!.groupCols], [1, 8]);
});

Deno.test("storedMatrix() gives the rotation group, and refuses one that does not divide K", () => {
  const marker = (size: number) =>
    markerTensor("l", { format: "int8_tensorwise", convrot: true, convrot_groupsize: size });
  assert.equal(matrixOf([codes([2, 16]), scales([2, 1]), marker(4)]).convrotGroupSize, 4);
  assert.throws(
    () => matrixOf([codes([2, 12]), scales([2, 1]), marker(16)]),
    /rotation group 16 does not divide its 12 columns/,
  );
  assert.throws(() => matrixOf([codes([2, 16]), scales([2, 1]), marker(8)]), /no power of 4/);
});

Deno.test("storedMatrix() reads the old scale_weight layout and bare scales", () => {
  assert.deepEqual(groupOf([codes([4, 8]), scales([4, 1], "scale_weight")]), [1, 8]);
  const f8 = tensorOf("l.weight", "F8_E4M3", [4, 8], new Uint8Array(32));
  assert.deepEqual(groupOf([f8, scales([])]), [4, 8]);
  assert.equal(matrixOf([f8]).scale, null);
});

Deno.test("storedMatrix() reads floats as they are: matrices and banks by row, other ranks as one", () => {
  const float = (shape: number[]) => tensorOf("x", "BF16", shape, new Uint16Array(count(shape)));
  const shapeOf = (shape: number[]) => {
    const { rows, cols, scale, dtype } = matrixOf([float(shape)], "x");
    assert.deepEqual([scale, dtype], [null, "BF16"]);
    return [rows, cols];
  };
  assert.deepEqual(shapeOf([3, 5]), [3, 5]);
  assert.deepEqual(shapeOf([2, 3, 5]), [6, 5]);
  assert.deepEqual(shapeOf([2, 3, 5, 2]), [1, 60]);
  assert.deepEqual(shapeOf([7]), [1, 7]);
  assert.deepEqual(shapeOf([]), [1, 1]);
});

Deno.test("storedMatrix() numbers the files from the offset on", () => {
  const marker = markerTensor("l", { format: "int8_tensorwise" });
  const matrix = matrixOf([codes([2, 4]), scales([2, 1]), marker], "l.weight", 3);
  assert.deepEqual([matrix.file, matrix.scale!.file], [3, 3]);
});

Deno.test("storedMatrix() refuses what it cannot restore", () => {
  const marker = markerTensor("l", { format: "int8_tensorwise" });
  const layer = [codes([2, 4]), scales([2, 1]), marker];
  const refused = (tensors: Tensor[], error: typeof FormatError | typeof UnsupportedError) =>
    assert.throws(() => matrixOf(tensors), error);
  refused([codes([2, 4])], UnsupportedError); // codes, and nothing that says what they are
  refused([codes([2, 4]), marker], FormatError); // no scale
  refused([codes([4]), scales([]), marker], FormatError); // no columns
  refused([codes([2, 4]), scales([2, 1]), markerTensor("l", "{}")], FormatError);
  refused(
    [codes([2, 4]), scales([2, 1]), markerTensor("l", { format: "nvfp4" })],
    FormatError,
  );
  refused(
    [tensorOf("l.weight", "BF16", [2, 4], new Uint16Array(8)), scales([2, 1]), marker],
    FormatError,
  );
  const factors = tensorOf("l.smooth_factors", "F32", [4], new Float32Array(4));
  const wrong = { ...factors, shape: [2], data: factors.data.slice(0, 8) };
  refused([...layer, wrong], FormatError);
  const foreign = { ...factors, name: "l.pre_quant_scale" };
  refused([...layer, foreign], UnsupportedError);
  const flag = tensorOf("l.hadamard_quip", "I8", [], new Int8Array(1));
  refused([...layer, flag], FormatError);
  const short = tensorOf("l.sign_row", "F32", [1], new Float32Array(1).fill(1));
  const long = tensorOf("l.sign_col", "F32", [4], new Float32Array(4).fill(1));
  refused([...layer, flag, short, long], FormatError);
});
