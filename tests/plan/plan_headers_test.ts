import assert from "node:assert/strict";
import { prepare } from "../../src/convert/prepare.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import {
  HEADER_NAMES,
  headerFacts,
  loadHeader,
  writeSparseModel,
} from "../support/header_files.ts";
import { temporaryFolder } from "../support/model_files.ts";

Deno.test("prepare() plans every real header: official counts in tier minimal, exact sizes, no name twice", async (t) => {
  for (const name of HEADER_NAMES) {
    await t.step(name, () => {
      using folder = temporaryFolder();
      const path = writeSparseModel(name, folder.path);
      const { rule, quantized } = headerFacts(name);
      if (quantized > 0) {
        assert.throws(
          () => prepare(path, DEFAULT_CONVERT_OPTIONS, { dryRun: true }),
          /already quantized/,
        );
      }
      const requantize = quantized > 0;
      const { plan, model } = prepare(
        path,
        { ...DEFAULT_CONVERT_OPTIONS, tier: "minimal", requantize },
        { dryRun: true },
      );
      const banks = plan.tensors.filter(({ source, action }) =>
        source.shape.length === 3 && action === "quantize"
      );
      assert.equal(plan.totals.quantize - banks.length, rule);
      assert.equal(plan.tensors.length, loadHeader(name).length);
      assert.equal(plan.totals.inputBytes, model.inputBytes);
      const last = plan.outputs[plan.outputs.length - 1]!;
      assert.equal(last.offsetBytes + last.byteLength, plan.totals.outputBytes);
      assert.equal(new Set(plan.outputs.map((output) => output.name)).size, plan.outputs.length);
    });
  }
});

Deno.test("prepare() refuses LoRAs and diffusers layouts in a real run and says why in a dry run", () => {
  using folder = temporaryFolder();
  for (
    const [name, words] of [["lora-flux1-kohya", /LoRA/], [
      "flux1-dev-diffusers-layout",
      /diffusers layout/,
    ]] as const
  ) {
    const path = writeSparseModel(name, folder.path);
    assert.throws(() => prepare(path, DEFAULT_CONVERT_OPTIONS), words);
    const { notes } = prepare(path, DEFAULT_CONVERT_OPTIONS, { dryRun: true });
    assert.match(notes.join("\n"), words);
  }
});
