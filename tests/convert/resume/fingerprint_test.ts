import assert from "node:assert/strict";
import { DEFAULT_CONVERT_OPTIONS } from "../../../src/plan/options.ts";
import { differences, fingerprintOf } from "../../../src/convert/resume/fingerprint.ts";
import type { Task } from "../../../src/run/tasks.ts";

const INPUT = { place: "/models/a.safetensors", bytes: 100, version: "17" };
const TASK: Task = {
  kind: "copy",
  name: "a",
  file: 0,
  offsetBytes: 8,
  byteLength: 4,
  outOffsetBytes: 8,
};
const BASE = {
  program: "quantsmith 1",
  device: "the CPU",
  inputs: [INPUT],
  plan: {
    parts: [{ header: Uint8Array.of(1, 2), startBytes: 0, totalBytes: 12, names: ["a"] }],
  },
  work: { tasks: [TASK], inline: [{ bytes: Uint8Array.of(7), offsetBytes: 3 }] },
  options: DEFAULT_CONVERT_OPTIONS,
};
const before = fingerprintOf(BASE);

function changed(change: Partial<typeof BASE>): string[] {
  // As it comes back from a journal.
  const read = JSON.parse(JSON.stringify(before));
  return differences(read, fingerprintOf({ ...BASE, ...change }));
}

Deno.test("differences() finds none between runs of the same work, whatever options are called", () => {
  assert.deepEqual(changed({}), []);
  assert.deepEqual(changed({ options: { ...DEFAULT_CONVERT_OPTIONS, tier: "minimal" } }), []);
});

Deno.test("differences() names the program, the device and the input that differ", () => {
  assert.deepEqual(changed({ program: "quantsmith 2" }), [
    "it was made by quantsmith 1, this is quantsmith 2",
  ]);
  assert.deepEqual(changed({ device: "a GPU" }), ["it was computed on the CPU, now on a GPU"]);
  for (const change of [{ bytes: 101 }, { version: "18" }]) {
    assert.deepEqual(changed({ inputs: [{ ...INPUT, ...change }] }), [
      "/models/a.safetensors has changed since",
    ]);
  }
  assert.match(changed({ inputs: [{ ...INPUT, place: "/b" }] }).join(), /now from \/b/);
});

Deno.test("differences() sees any change of what is written, and names the options behind it", () => {
  const { parts: [part] } = BASE.plan;
  const works = [
    { work: { ...BASE.work, tasks: [{ ...TASK, outOffsetBytes: 9 }] } },
    { work: { ...BASE.work, inline: [{ bytes: Uint8Array.of(8), offsetBytes: 3 }] } },
    { work: { ...BASE.work, inline: [{ bytes: Uint8Array.of(7), offsetBytes: 4 }] } },
    { plan: { parts: [{ ...part!, header: Uint8Array.of(1, 3) }] } },
    { plan: { parts: [{ ...part!, totalBytes: 13 }] } },
  ];
  for (const change of works) {
    assert.deepEqual(changed(change), ["what is to be written differs"]);
    const options = { ...DEFAULT_CONVERT_OPTIONS, scaleSearch: "off" as const, seed: 5 };
    assert.deepEqual(changed({ ...change, options }), [
      'scaleSearch was null, is "off"',
      "seed was 0, is 5",
    ]);
  }
});

Deno.test("fingerprintOf() distinguishes arrays of tasks by their content", () => {
  const task = (factor: number): Task => ({
    kind: "cast",
    name: "a",
    source: {
      name: "a",
      file: 0,
      offsetBytes: 0,
      dtype: "F32",
      rows: 1,
      cols: 1,
      scale: null,
      convrotGroupSize: null,
      columnFactors: Float32Array.of(factor),
    },
    dtype: "F16",
    outOffsetBytes: 0,
  });
  const hash = (factor: number) =>
    fingerprintOf({ ...BASE, work: { tasks: [task(factor)], inline: [] } }).work;
  assert.equal(hash(1), hash(1));
  assert.notEqual(hash(1), hash(2));
});
