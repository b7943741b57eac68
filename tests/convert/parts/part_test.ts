import assert from "node:assert/strict";
import { UsageError } from "../../../src/core/errors.ts";
import { ambientPart, manifestPath, parsePart, partPath } from "../../../src/convert/parts/part.ts";

Deno.test("parsePart() reads the number and the count", () => {
  assert.deepEqual(parsePart("2/8", {}), { index: 2, count: 8 });
});

Deno.test("parsePart() takes both from an array of Slurm, wherever it begins and however it steps", () => {
  const env = (id: number, min: number, count: number, step?: number) => ({
    SLURM_ARRAY_TASK_ID: `${id}`,
    SLURM_ARRAY_TASK_MIN: `${min}`,
    SLURM_ARRAY_TASK_COUNT: `${count}`,
    ...(step === undefined ? {} : { SLURM_ARRAY_TASK_STEP: `${step}` }),
  });
  assert.deepEqual(parsePart("auto", env(0, 0, 4)), { index: 1, count: 4 });
  assert.deepEqual(parsePart("auto", env(4, 1, 4)), { index: 4, count: 4 });
  assert.deepEqual(parsePart("auto", env(14, 10, 3, 2)), { index: 3, count: 3 });
  // A list like --array=1,9 has no number to count by.
  assert.throws(() => parsePart("auto", env(9, 1, 2)), UsageError);
});

Deno.test("parsePart() takes the number alone from Slurm if the count is written", () => {
  const env = { SLURM_ARRAY_TASK_ID: "3", SLURM_ARRAY_TASK_MIN: "3", SLURM_ARRAY_TASK_COUNT: "1" };
  assert.deepEqual(parsePart("auto/8", env), { index: 3, count: 8 });
  assert.throws(() => parsePart("auto/8", { ...env, SLURM_ARRAY_TASK_ID: "0" }), /no part 0 of 8/);
});

Deno.test("parsePart() counts Kubernetes' completions from 1, and needs their count", () => {
  assert.deepEqual(parsePart("auto/8", { JOB_COMPLETION_INDEX: "0" }), { index: 1, count: 8 });
  assert.throws(() => parsePart("auto", { JOB_COMPLETION_INDEX: "0" }), /auto\/N/);
});

Deno.test("parsePart() refuses what names no part", () => {
  for (
    const text of ["", "3", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "one/two", "auto/0", "1.5/4"]
  ) {
    assert.throws(() => parsePart(text, { SLURM_ARRAY_TASK_ID: "1" }), UsageError, text);
  }
  assert.throws(
    () => parsePart("auto", {}),
    /neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX/,
  );
  assert.throws(() => parsePart("auto/2", { SLURM_ARRAY_TASK_ID: "x" }), /not a number/);
});

Deno.test("parsePart() takes all of the model for none, and the count from QUANTSMITH_PARTS", () => {
  assert.equal(parsePart("none", { SLURM_ARRAY_TASK_ID: "1" }), null);
  const env = { JOB_COMPLETION_INDEX: "2", QUANTSMITH_PARTS: "8" };
  assert.deepEqual(parsePart("auto", env), { index: 3, count: 8 });
});

Deno.test("ambientPart() takes the part of an array of jobs, and says so", () => {
  const slurm = {
    SLURM_ARRAY_TASK_ID: "3",
    SLURM_ARRAY_TASK_MIN: "1",
    SLURM_ARRAY_TASK_COUNT: "8",
  };
  const found = ambientPart(slurm)!;
  assert.deepEqual(found.part, { index: 3, count: 8 });
  assert.match(found.note, /PART 3 OF 8 ONLY, as SLURM_ARRAY_TASK_ID is 3: .*--part none/);
  const indexed = ambientPart({ JOB_COMPLETION_INDEX: "0", QUANTSMITH_PARTS: "4" })!;
  assert.deepEqual(indexed.part, { index: 1, count: 4 });
  // Part of an array again: the count is that of the whole.
  const again = { ...slurm, SLURM_ARRAY_TASK_MIN: "3", SLURM_ARRAY_TASK_COUNT: "1" };
  assert.equal(ambientPart(again), null);
  assert.deepEqual(ambientPart({ ...again, QUANTSMITH_PARTS: "8" })!.part, { index: 3, count: 8 });
});

Deno.test("ambientPart() takes none without an array, or if nothing says how many parts there are", () => {
  assert.equal(ambientPart({}), null);
  assert.equal(ambientPart({ SLURM_ARRAY_TASK_ID: "5" }), null);
  const { part, note } = ambientPart({ JOB_COMPLETION_INDEX: "1" })!;
  assert.equal(part, null);
  assert.match(note, /ALL OF THE MODEL is done by this job/);
  assert.throws(() => ambientPart({ SLURM_ARRAY_TASK_ID: "x" }), UsageError);
});

Deno.test("partPath() and manifestPath() lie beside the output, shards or not", () => {
  const part = { index: 2, count: 8 };
  assert.equal(partPath("a/m.safetensors", part), "a/m.part-2-of-8.safetensors");
  assert.equal(partPath("a/m.safetensors.index.json", part), "a/m.part-2-of-8.safetensors");
  assert.equal(manifestPath("a/m.safetensors", part), "a/m.part-2-of-8.json");
});
