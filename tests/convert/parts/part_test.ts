import assert from "node:assert/strict";
import { UsageError } from "../../../src/core/errors.ts";
import { manifestPath, parsePart, partPath } from "../../../src/convert/parts/part.ts";

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

Deno.test("partPath() and manifestPath() lie beside the output, shards or not", () => {
  const part = { index: 2, count: 8 };
  assert.equal(partPath("a/m.safetensors", part), "a/m.part-2-of-8.safetensors");
  assert.equal(partPath("a/m.safetensors.index.json", part), "a/m.part-2-of-8.safetensors");
  assert.equal(manifestPath("a/m.safetensors", part), "a/m.part-2-of-8.json");
});
