import assert from "node:assert/strict";
import { prepare } from "../../src/convert/prepare.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { temporaryFolder, writeModel } from "../support/model_files.ts";

Deno.test("makePlan() gives layers with the same marker one copy of its bytes, others their own", () => {
  using folder = temporaryFolder();
  const path = `${folder.path}/m.safetensors`;
  const weight = (name: string, cols: number) => ({
    name: `${name}.weight`,
    dtype: "F32" as const,
    shape: [64, cols],
    data: new Uint8Array(4 * 64 * cols),
  });
  writeModel(path, [weight("a", 256), weight("b", 256), weight("c", 64), weight("d", 256)]);
  const preset = { kind: "none" } as const;
  const { plan } = prepare(path, { ...DEFAULT_CONVERT_OPTIONS, preset });
  const markers = ["a", "b", "c", "d"].map((layer) => {
    const { content } = plan.outputs.find(({ name }) => name === `${layer}.comfy_quant`)!;
    assert.ok(content.kind === "inline");
    return content.bytes;
  });
  const [a, b, c, d] = markers;
  assert.deepEqual(JSON.parse(new TextDecoder().decode(a)).convrot_groupsize, 256);
  assert.equal(a, b);
  assert.equal(a, d);
  assert.equal(JSON.parse(new TextDecoder().decode(c)).convrot_groupsize, 64);
});
