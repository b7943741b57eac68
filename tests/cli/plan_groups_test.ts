import assert from "node:assert/strict";
import { join } from "node:path";
import { blockName, groupPlan } from "../../src/cli/plan_groups.ts";
import { planLines } from "../../src/cli/plan_report.ts";
import { prepare } from "../../src/convert/prepare.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { temporaryFolder } from "../support/model_files.ts";
import { writeSyntheticModel } from "../support/synthetic_model.ts";
import { fluxLikeOfBytes, MODEL_SIZES } from "../support/synthetic_shapes.ts";

function planOfTinyModel() {
  using folder = temporaryFolder();
  const path = join(folder.path, "m.safetensors");
  const size = { ...MODEL_SIZES["tiny"]!, doubleBlocks: 3, singleBlocks: 5 };
  writeSyntheticModel(path, fluxLikeOfBytes(size, 0), { seed: 1 });
  return prepare(path, DEFAULT_CONVERT_OPTIONS).plan;
}

Deno.test("blockName() replaces the number of a block and of an expert, not of a layer in it", () => {
  assert.equal(blockName("double_blocks.17.img_mlp.0.weight"), "double_blocks.N.img_mlp.0.weight");
  assert.equal(blockName("layers.3.experts.12.w1.weight"), "layers.N.experts.N.w1.weight");
  assert.equal(blockName("txt_in.0.weight"), "txt_in.0.weight");
  assert.equal(blockName("img_in.weight"), "img_in.weight");
});

Deno.test("groupPlan() has every tensor once, and the bytes of both files", () => {
  const plan = planOfTinyModel();
  const groups = groupPlan(plan).flatMap((section) => section.groups);
  const names = groups.flatMap(({ tensors }) => tensors.map(({ source }) => source.name));
  assert.deepEqual(names.toSorted(), plan.tensors.map(({ source }) => source.name).toSorted());
  const input = plan.tensors.reduce((sum, { source }) => sum + source.byteLength, 0);
  assert.equal(groups.reduce((sum, { inputBytes }) => sum + inputBytes, 0), input);
  const output = plan.outputs.filter(({ content }) => content.kind !== "inline")
    .reduce((sum, { byteLength }) => sum + byteLength, 0);
  assert.equal(groups.reduce((sum, { outputBytes }) => sum + outputBytes, 0), output);
  const qkv = groups.find(({ name }) => name === "double_blocks.N.img_attn.qkv.weight");
  assert.equal(qkv?.tensors.length, 3);
});

Deno.test("planLines() prints groups that fit the terminal, and every tensor in full", () => {
  const plan = planOfTinyModel();
  for (const columns of [80, 120]) {
    const rows = planLines(plan, [], { columns }).filter((line) => /^ +\d+ x /.test(line));
    assert.ok(rows.length > 10);
    for (const row of rows) assert.ok(row.length <= columns, row);
  }
  const full = planLines(plan, [], { full: true });
  for (const { source } of plan.tensors) {
    assert.ok(full.some((line) => line.startsWith(`  ${source.name}  `)), source.name);
  }
  assert.ok(planLines(plan).length < full.length);
});
