import assert from "node:assert/strict";
import { FormatError, UnsupportedError } from "../../src/core/errors.ts";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { scalingOf } from "../../src/lora/lora_module.ts";
import { checkLora, parseLora } from "../../src/lora/parse_lora.ts";
import { tensor } from "./headers.ts";

/** Asserts that the tensors have one problem that says `message`, and that `checkLora` throws it. */
function assertProblem(
  tensors: readonly TensorInfo[],
  message: RegExp,
  { unsupported = false, metadata = null }: {
    unsupported?: boolean;
    metadata?: Record<string, string> | null;
  } = {},
): void {
  const lora = parseLora(tensors, metadata);
  assert.equal(lora.problems.length, 1, JSON.stringify(lora.problems));
  assert.match(lora.problems[0]!.message, message);
  assert.equal(lora.problems[0]!.unsupported, unsupported);
  assert.throws(() => checkLora("a.safetensors", lora), (error: unknown) => {
    assert.ok(error instanceof (unsupported ? UnsupportedError : FormatError));
    assert.match(error.message, message);
    assert.match(error.message, /"a\.safetensors"/);
    return true;
  });
}

const DOWN = tensor("x.lora_A.weight", [4, 8]);
const UP = tensor("x.lora_B.weight", [16, 4]);

Deno.test("parseLora() groups a pair whatever its spelling", () => {
  const spellings = [
    ["lora_A.weight", "lora_B.weight"],
    ["lora_A.default.weight", "lora_B.default.weight"],
    ["lora_A", "lora_B"],
    ["lora_down.weight", "lora_up.weight"],
    ["lora.down.weight", "lora.up.weight"],
    ["lora_linear_layer.down.weight", "lora_linear_layer.up.weight"],
  ];
  for (const [down, up] of spellings) {
    const { modules, problems, unknown } = parseLora([
      tensor(`blocks.0.q.${down}`, [4, 8]),
      tensor(`blocks.0.q.${up}`, [16, 4]),
    ]);
    assert.deepEqual([problems, unknown], [[], []], down ?? "");
    const [module] = modules;
    assert.deepEqual(
      [module!.key, module!.kind, module!.rank, module!.rows, module!.cols, module!.alpha],
      ["blocks.0.q", "lora", 4, 16, 8, { kind: "rank" }],
    );
    assert.equal(module!.tensors.down!.name, `blocks.0.q.${down}`);
  }
  const legacy = parseLora([
    tensor("unet.a.processor.to_q_lora.down.weight", [4, 8]),
    tensor("unet.a.processor.to_q_lora.up.weight", [16, 4]),
  ]);
  assert.equal(legacy.modules[0]!.key, "unet.a.processor.to_q");
});

Deno.test("parseLora() flattens convolutions, with or without a middle factor", () => {
  const plain = parseLora([
    tensor("c.lora_down.weight", [4, 8, 3, 3]),
    tensor("c.lora_up.weight", [16, 4, 1, 1]),
  ]).modules[0]!;
  assert.deepEqual([plain.rank, plain.rows, plain.cols], [4, 16, 72]);
  const middle = parseLora([
    tensor("c.lora_down.weight", [4, 8, 1, 1]),
    tensor("c.lora_mid.weight", [4, 4, 3, 3]),
    tensor("c.lora_up.weight", [16, 4, 1, 1]),
  ]).modules[0]!;
  assert.deepEqual([middle.rank, middle.rows, middle.cols], [4, 16, 72]);
});

Deno.test("parseLora() recognises DoRA, LoHa, LoKr and plain changes", () => {
  const { modules, problems } = parseLora([
    DOWN,
    UP,
    tensor("x.lora_magnitude_vector", [16]),
    tensor("h.hada_w1_a", [16, 4]),
    tensor("h.hada_w1_b", [4, 8]),
    tensor("h.hada_w2_a", [16, 4]),
    tensor("h.hada_w2_b", [4, 8]),
    tensor("k.lokr_w1", [2, 4]),
    tensor("k.lokr_w2_a", [8, 3]),
    tensor("k.lokr_w2_b", [3, 2]),
    tensor("n.diff", [16]),
    tensor("n.diff_b", [16]),
  ]);
  assert.deepEqual(problems, []);
  assert.deepEqual(
    modules.map((m) => [m.key, m.kind, m.dora, m.rank, m.rows, m.cols]),
    [
      ["x", "lora", true, 4, 16, 8],
      ["h", "loha", false, 4, 16, 8],
      ["k", "lokr", false, 3, 16, 8],
      ["n", "diff", false, null, 16, 1],
    ],
  );
});

Deno.test("parseLora() takes alpha from a tensor, else PEFT's metadata, else the trainer's", () => {
  const alpha = tensor("transformer.a.q.alpha", []);
  const pair = [
    tensor("transformer.a.q.lora_A.weight", [4, 8]),
    tensor("transformer.a.q.lora_B.weight", [16, 4]),
  ];
  const peft = JSON.stringify({
    "transformer.lora_alpha": 8,
    "transformer.r": 4,
    "transformer.alpha_pattern": { "b.q": 2 },
    "text_encoder.lora_alpha": 99,
  });
  const both = { lora_adapter_metadata: peft, ss_network_alpha: "16.0" };
  const of = (tensors: TensorInfo[], metadata: Record<string, string> | null) =>
    parseLora(tensors, metadata).modules[0]!.alpha;
  assert.deepEqual(of([...pair, alpha], both), { kind: "tensor", name: alpha.name });
  assert.deepEqual(of(pair, both), {
    kind: "metadata",
    key: "lora_adapter_metadata.lora_alpha",
    value: 8,
  });
  const patterned = pair.map((t) => ({ ...t, name: t.name.replace("a.q", "b.q") }));
  assert.deepEqual(of(patterned, both), {
    kind: "metadata",
    key: "lora_adapter_metadata.alpha_pattern",
    value: 2,
  });
  assert.deepEqual(of(pair, { ss_network_alpha: "16.0" }), {
    kind: "metadata",
    key: "ss_network_alpha",
    value: 16,
  });
  assert.deepEqual(of(pair, { ss_network_alpha: "None" }), { kind: "rank" });
  assert.deepEqual(of(pair, null), { kind: "rank" });
});

Deno.test("scalingOf() is alpha / rank, alpha / sqrt(rank) if the file says so, else 1", () => {
  const pair = [DOWN, UP];
  const stable = parseLora(pair, {
    lora_adapter_metadata: '{"lora_alpha": 8, "use_rslora": true}',
  }).modules[0]!;
  assert.equal(scalingOf(stable, 8), 4);
  assert.equal(scalingOf(parseLora(pair).modules[0]!, 8), 2);
  assert.equal(scalingOf(parseLora(pair).modules[0]!, null), 1);
});

Deno.test("parseLora() names the missing half of a pair", () => {
  assertProblem([DOWN], /other half of the pair, up \(B\), is missing/);
  assertProblem([UP], /other half of the pair, down \(A\), is missing/);
  assertProblem(
    [tensor("k.lokr_w1", [2, 2]), tensor("k.lokr_w2_a", [2, 2])],
    /its factor w2_b is missing/,
  );
  assertProblem(
    [tensor("h.hada_w1_a", [4, 2]), tensor("h.hada_w1_b", [2, 4])],
    /its factor w2 is missing/,
  );
});

Deno.test("parseLora() refuses rank 0, unequal ranks, integers and odd alphas", () => {
  assertProblem([tensor("x.lora_A.weight", [0, 8]), UP], /no elements.*rank 0/);
  assertProblem([tensor("x.lora_A.weight", [5, 8]), UP], /its rank is 4 .* is 5 /);
  assertProblem([tensor("x.lora_A.weight", [4, 8], "I8"), UP], /its dtype is I8/);
  assertProblem([DOWN, UP, tensor("x.alpha", [2])], /alpha is one number, its shape is \[2\]/);
  assertProblem([tensor("x.lora_A.weight", [8]), UP], /a matrix is needed/);
  assertProblem([DOWN, UP, tensor("x.lora_B.bias", [15])], /has 16 outputs/);
  assertProblem(
    [DOWN, UP, tensor("x.lora_down.weight", [4, 8])],
    /"x\.lora_A\.weight" is the same part of the same layer/,
  );
  assertProblem([DOWN, UP, tensor("x.diff", [16, 8])], /two kinds of adapter/);
});

Deno.test("parseLora() refuses metadata alphas that are none, if one is needed", () => {
  const dynamic = { ss_network_alpha: "Dynamic" };
  assertProblem([DOWN, UP], /alpha is "Dynamic", a finite number/, { metadata: dynamic });
  assert.deepEqual(parseLora([DOWN, UP, tensor("x.alpha", [])], dynamic).problems, []);
  assertProblem([DOWN, UP], /it is not JSON/, { metadata: { lora_adapter_metadata: "{a}" } });
  assertProblem([DOWN, UP], /lora_alpha is "8", a finite number/, {
    metadata: { lora_adapter_metadata: '{"transformer.lora_alpha": "8"}' },
  });
});

Deno.test("parseLora() names adapters that are not merged", () => {
  const cases: [TensorInfo[], RegExp][] = [
    [[tensor("x.oft_blocks", [4, 8, 8])], /OFT is not supported/],
    [[tensor("x.a1.weight", [4, 8])], /GLoRA is not supported/],
    [[tensor("x.lokr_t2", [4, 4, 3, 3])], /LoKr with a Tucker factor is not supported/],
    [
      [DOWN, UP, tensor("x.dora_scale", [1, 8])],
      /norms along the input is not supported/,
    ],
  ];
  for (const [tensors, message] of cases) assertProblem(tensors, message, { unsupported: true });
});

Deno.test("checkLora() says of a file without pairs that it is no LoRA", () => {
  const lora = parseLora([tensor("blocks.0.q.weight", [8, 8])]);
  assert.throws(
    () => checkLora("model.safetensors", lora),
    /no LoRA tensors are in it, its first tensors are "blocks\.0\.q\.weight"/,
  );
  assert.deepEqual(parseLora([DOWN, UP, tensor("bundle_emb.a", [2, 8])]).unknown, ["bundle_emb.a"]);
});
