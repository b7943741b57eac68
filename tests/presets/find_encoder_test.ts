import assert from "node:assert/strict";
import { UnsupportedError } from "../../src/core/errors.ts";
import { parseEncoderConfig } from "../../src/presets/encoders/encoder_config.ts";
import { linearGroups, type Shapes } from "../../src/presets/encoders/encoder_graph.ts";
import { findEncoder } from "../../src/presets/encoders/find_encoder.ts";
import { loadHeader } from "../support/header_files.ts";

const at = { path: "model.safetensors", config: () => null };

function shapesOf(header: string): Map<string, readonly number[]> {
  return new Map(loadHeader(header).map(({ name, shape }) => [name, shape]));
}

function refused(shapes: Shapes, message: RegExp, config: object | null = null): void {
  const parsed = config === null ? null : parseEncoderConfig(JSON.stringify(config));
  assert.throws(
    () => findEncoder(shapes, { ...at, config: () => parsed }),
    (error) => error instanceof UnsupportedError && message.test(error.message),
  );
}

/** Header, family, blocks, heads, heads of keys, size of a head, theta of the first and of the sixth block. */
const REAL = [
  ["t5xxl-fp16", "T5", 24, 64, 64, 64, null, null],
  ["umt5-xxl-fp16", "T5", 24, 64, 64, 64, null, null],
  ["qwen3-4b-te", "Qwen3", 36, 32, 8, 128, 1e6, 1e6],
  ["mistral-3-small-flux2-bf16", "Mistral Small 3", 30, 32, 8, 128, 1e9, 1e9],
  ["gemma3-12b-te-textpart", "Gemma 3", 48, 16, 8, 256, 1e4, 1e6],
  ["qwen2.5-vl-7b-bf16", "Qwen2", 28, 28, 4, 128, 1e6, 1e6],
] as const;

for (const [header, title, blocks, heads, keyHeads, headSize, first, sixth] of REAL) {
  Deno.test(`findEncoder() knows the text encoder ${header}`, () => {
    const shapes = shapesOf(header), graph = findEncoder(shapes, at);
    const { attention } = graph.blocks[0]!;
    assert.deepEqual([graph.title, graph.blocks.length], [title, blocks]);
    assert.deepEqual(
      [attention.heads, attention.keyHeads, attention.headSize],
      [heads, keyHeads, headSize],
    );
    assert.equal(attention.rope?.theta ?? null, first);
    assert.equal(graph.blocks[5]!.attention.rope?.theta ?? null, sixth);
    const weights = graph.blocks.flatMap((block) => linearGroups(block).flat());
    assert.equal(new Set(weights.map(({ weight }) => weight)).size, 7 * blocks);
    assert.ok(weights.every(({ weight }) => shapes.get(weight)?.length === 2));
  });
}

Deno.test("findEncoder() has a window for five of six blocks of Gemma 3, and a table of its own for each of UMT5", () => {
  const gemma = findEncoder(shapesOf("gemma3-12b-te-textpart"), at).blocks;
  assert.deepEqual(
    gemma.slice(0, 7).map(({ attention }) => attention.window),
    [1024, 1024, 1024, 1024, 1024, null, 1024],
  );
  assert.equal(gemma[5]!.attention.rope!.scale, 8);
  const tables = (header: string) =>
    new Set(findEncoder(shapesOf(header), at).blocks.map((b) => b.attention.relativeBias)).size;
  assert.deepEqual([tables("umt5-xxl-fp16"), tables("t5xxl-fp16")], [24, 1]);
});

Deno.test("findEncoder() finds the encoder of a checkpoint under its prefix, and refuses to choose among several", () => {
  const t5 = shapesOf("t5xxl-fp16");
  const under = (prefix: string, shapes: Shapes) =>
    [...shapes].map(([name, shape]) => [`${prefix}${name}`, shape] as const);
  const one = findEncoder(new Map(under("text_encoders.t5xxl.transformer.", t5)), at);
  assert.equal(one.blocks.length, 24);
  assert.match(one.embedding.tokens, /^text_encoders\.t5xxl\.transformer\.shared/);
  const both = new Map([...under("a.", t5), ...under("b.", shapesOf("qwen3-4b-te"))]);
  refused(both, /holds 2 text encoders: T5 under "a\.", Qwen3 under "b\.model\."/);
});

Deno.test("findEncoder() refuses what is no encoder that it knows, and names those that it knows", () => {
  refused(shapesOf("flux1-dev"), /no text encoder that is supported; supported are T5 .* BERT/);
  const other = (tensor: string) =>
    new Map([...shapesOf("qwen3-4b-te"), [`model.layers.0.${tensor}`, [1]]]);
  refused(other("layer_scalar"), /Gemma 4 are not supported; supported are T5/);
  refused(other("mlp.gate.weight"), /mixtures of experts are not supported/);
});

Deno.test("findEncoder() names a tensor that is missing or of another shape", () => {
  const shapes = shapesOf("t5xxl-fp16"), name = "encoder.block.3.layer.1.layer_norm.weight";
  shapes.delete(name);
  refused(shapes, /lacks the tensor "encoder\.block\.3\.layer\.1\.layer_norm\.weight" of T5/);
  shapes.set(name, [17]);
  refused(shapes, /layer_norm\.weight" has shape \[17\], T5 needs 4096 columns/);
});

Deno.test("findEncoder() takes the numbers of unknown sizes from config.json only", () => {
  const shapes = new Map(
    [...shapesOf("mistral-3-small-flux2-bf16")].filter(([name]) => !/layers\.[1-9]/.test(name)),
  );
  shapes.set("model.embed_tokens.weight", [32000, 5120]);
  const unknown = /Llama or Mistral of width 5120 with 32000 tokens, a size that is not known; put/;
  refused(shapes, unknown);
  const numbers = { rope_theta: 1e5, rms_norm_eps: 1e-5, num_attention_heads: 32, head_dim: 128 };
  const read = (config: object) =>
    findEncoder(shapes, { ...at, config: () => parseEncoderConfig(JSON.stringify(config)) });
  assert.equal(read(numbers).blocks[0]!.attention.rope!.theta, 1e5);
  assert.equal(read({ text_config: numbers }).blocks[0]!.attention.heads, 32);
  refused(shapes, unknown, { ...numbers, hidden_size: 4096 });
  refused(shapes, unknown, { ...numbers, rope_scaling: { rope_type: "yarn", factor: 4 } });
});
