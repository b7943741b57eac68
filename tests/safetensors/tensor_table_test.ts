import assert from "node:assert/strict";
import type { DType } from "../../src/core/dtype.ts";
import type { SourceTensor } from "../../src/core/tensor.ts";
import { detect } from "../../src/presets/detect.ts";
import { TableWriter, type TensorTable } from "../../src/safetensors/tensor_table.ts";

const utf8 = new TextEncoder();

/** More tensors than are made text at once, of which some have names that are not ASCII. */
const NAMES = Array.from({ length: 1500 }, (_, i) => {
  if (i === 1) return ""; // a name may be empty
  return i >= 600 && i < 1200 && i % 7 === 0 ? `blöcke.${i}.wéight` : `blocks.${i}.weight`;
});
NAMES[2] = "\ufeffmarked"; // no mark of an encoding, but part of the name

const DTYPES: readonly DType[] = ["BF16", "F4", "I64", "BOOL"];
const SHAPES = [[], [2, 3], [0], [1e12, 2], [1, 2, 3, 4, 5]] as const;

function tensorsOf(names: readonly string[]): SourceTensor[] {
  return names.map((name, i) => ({
    name,
    dtype: DTYPES[i % DTYPES.length]!,
    shape: SHAPES[i % SHAPES.length]!,
    file: 4,
    offsetBytes: 2 ** 40 + 8 * i,
    byteLength: 8,
  }));
}

function tableOf(tensors: readonly SourceTensor[]): TensorTable {
  const bytes = tensors.map(({ name }) => utf8.encode(name));
  const writer = new TableWriter(bytes.reduce((sum, { length }) => sum + length + 60, 0));
  tensors.forEach((tensor, i) => writer.add(bytes[i]!, tensor));
  return writer.finish(4);
}

Deno.test("TensorTable gives the tensors that were added, in every way of walking it", () => {
  const tensors = tensorsOf(NAMES), table = tableOf(tensors);
  assert.equal(table.length, tensors.length);
  assert.deepEqual([...table], tensors);
  assert.deepEqual(table.map((tensor, place) => [tensor, place]), tensors.map((t, i) => [t, i]));
  assert.deepEqual(table.flatMap(({ name }) => [name, [name]]), NAMES.flatMap((n) => [n, [n]]));
  const isWanted = ({ name }: SourceTensor) => name.includes("1");
  assert.deepEqual(table.filter(isWanted), tensors.filter(isWanted));
  assert.deepEqual(table.find(({ name }) => name.includes("70")), tensors[70]);
  assert.equal(table.some(({ name }) => name === "x"), false);
  assert.equal(table.reduce((sum, { byteLength }) => sum + byteLength, 1), 8 * NAMES.length + 1);
  for (const place of [0, 1, 2, 511, 512, 700, 1499]) {
    assert.deepEqual(table.at(place), tensors[place]);
    assert.equal(table.rangeAt(place).end, tensors[place]!.offsetBytes + 8);
  }
  for (const place of [-1, 1500]) assert.equal(table.at(place), undefined);
  assert.equal(table.at(0)!.shape, table.at(5)!.shape);
  assert.deepEqual([...tableOf([])], []);
});

Deno.test("TensorTable.choose() gives a table of some tensors, of which one can choose again", () => {
  const tensors = tensorsOf(NAMES), table = tableOf(tensors);
  const isEven = ({ offsetBytes }: SourceTensor) => offsetBytes % 16 === 0;
  const isThird = ({ offsetBytes }: SourceTensor) => offsetBytes % 3 === 0;
  const chosen = table.choose(isEven).choose(isThird);
  assert.deepEqual([...chosen], tensors.filter(isEven).filter(isThird));
  assert.deepEqual(chosen.at(3), tensors.filter(isEven).filter(isThird)[3]);
  assert.equal(table.choose(() => true), table);
});

Deno.test("TensorTable.inOffsetOrder() puts those without bytes before the one at their offset", () => {
  const offsets = [800, 0, 8, 8, 300, 8];
  const tensors = tensorsOf(["a", "b", "c", "d", "e", "f"]).map((tensor, i) => ({
    ...tensor,
    offsetBytes: offsets[i]!,
    byteLength: i === 3 || i === 5 ? 0 : 8,
  }));
  const ordered = tableOf(tensors).inOffsetOrder();
  assert.deepEqual(ordered.map(({ name }) => name).join(""), "bdfcea");
  assert.deepEqual(ordered.map((_, i) => ordered.rangeAt(i).begin), [0, 8, 8, 8, 300, 800]);
  assert.equal(ordered.inOffsetOrder(), ordered);
});

Deno.test("TensorTable.hasTwins() finds two tensors of one name, and no others", () => {
  assert.equal(tableOf(tensorsOf(NAMES)).hasTwins(), false);
  for (const twin of [0, 1, 2, 777, 1499]) {
    assert.equal(tableOf(tensorsOf([...NAMES, NAMES[twin]!])).hasTwins(), true);
  }
  assert.equal(tableOf([]).hasTwins(), false);
});

Deno.test("TensorTable.hasTwins() is right of names that share a hash, too", () => {
  // FNV-1a, as the table hashes: names of one slot among those of 300.
  const slotOf = (name: string) => {
    const hash = utf8.encode(name).reduce(
      (hash, byte) => Math.imul(hash ^ byte, 0x01000193),
      0x811c9dc5,
    );
    return (hash ^ (hash >>> 15)) & 1023;
  };
  const names: string[] = [];
  for (let i = 0; names.length < 300; i++) if (slotOf(`n${i}`) === 5) names.push(`n${i}`);
  assert.equal(tableOf(tensorsOf(names)).hasTwins(), false);
  assert.equal(tableOf(tensorsOf([...names, names[0]!])).hasTwins(), true);
  assert.equal(tableOf(tensorsOf([...names, names.at(-1)!])).hasTwins(), true);
});

Deno.test("detect() says the same of a table and of an array", () => {
  const names = ["double_blocks.0.img_attn.norm.key_norm.weight", "img_in.weight", "x_embedder"];
  for (const prefix of ["", "model.diffusion_model.", "net."]) {
    const tensors = tensorsOf(names.map((name) => prefix + name));
    assert.deepEqual(detect(tableOf(tensors)), detect(tensors));
  }
});
