/** The tensors of synthetic checkpoints: names and shapes of FLUX.2 at a chosen width and depth. */

import type { SyntheticTensor } from "./synthetic_model.ts";

/** Width and depth of a model. */
export interface ModelSize {
  /** Width of the residual stream; a multiple of 128, the width of a head. */
  readonly hidden: number;
  readonly doubleBlocks: number;
  readonly singleBlocks: number;
  /** Width of the text embedding that comes in. */
  readonly text: number;
}

/** `tiny`: a few MB, for tests. `demo`: about 300 MB. `bench`: the blocks of FLUX.2 klein 4B, a few of them. */
export const MODEL_SIZES: Readonly<Record<"tiny" | "demo" | "bench", ModelSize>> = {
  tiny: { hidden: 256, doubleBlocks: 1, singleBlocks: 1, text: 512 },
  demo: { hidden: 1024, doubleBlocks: 2, singleBlocks: 6, text: 2048 },
  bench: { hidden: 3072, doubleBlocks: 3, singleBlocks: 4, text: 7680 },
};

const HEAD = 128;
const LATENT = 128;

/** Columns that no rotation group divides: such layers must be stored another way. */
export const ODD_COLUMNS = 1000;

/** Returns a 2-D weight, `[rows, cols]`. */
export function weight(
  name: string,
  rows: number,
  cols: number,
  dtype: SyntheticTensor["dtype"] = "BF16",
): SyntheticTensor {
  return { name: `${name}.weight`, dtype, shape: [rows, cols], role: "weight" };
}

function vector(name: string, length: number, role: "norm" | "vector"): SyntheticTensor {
  return { name, dtype: "BF16", shape: [length], role };
}

/** The attention and the MLP of one stream (`img` or `txt`) of a double block. */
function stream(prefix: string, { hidden }: ModelSize): SyntheticTensor[] {
  return [
    weight(`${prefix}_attn.qkv`, 3 * hidden, hidden),
    vector(`${prefix}_attn.qkv.bias`, 3 * hidden, "vector"),
    vector(`${prefix}_attn.norm.query_norm.scale`, HEAD, "norm"),
    vector(`${prefix}_attn.norm.key_norm.scale`, HEAD, "norm"),
    weight(`${prefix}_attn.proj`, hidden, hidden),
    vector(`${prefix}_attn.proj.bias`, hidden, "vector"),
    weight(`${prefix}_mlp.0`, 6 * hidden, hidden), // gated: two halves of 3 hidden each
    weight(`${prefix}_mlp.2`, hidden, 3 * hidden),
  ];
}

function singleBlock(index: number, { hidden }: ModelSize): SyntheticTensor[] {
  const prefix = `single_blocks.${index}`;
  return [
    weight(`${prefix}.linear1`, 9 * hidden, hidden), // q, k, v and the gated MLP at once
    weight(`${prefix}.linear2`, hidden, 4 * hidden, index === 0 ? "F16" : "BF16"),
    vector(`${prefix}.norm.query_norm.scale`, HEAD, "norm"),
    vector(`${prefix}.norm.key_norm.scale`, HEAD, "norm"),
  ];
}

/**
 * Returns the tensors of a model named as FLUX.2, with what real files mix in: biases, norms, an
 * embedding, one layer of F32, one of F16, and one with a number of columns that no rotation divides.
 */
export function fluxLikeTensors(size: ModelSize): SyntheticTensor[] {
  const { hidden, text } = size;
  const doubles = Array.from({ length: size.doubleBlocks }, (_, index) => [
    ...stream(`double_blocks.${index}.img`, size),
    ...stream(`double_blocks.${index}.txt`, size),
  ]);
  const singles = Array.from({ length: size.singleBlocks }, (_, index) => singleBlock(index, size));
  return [
    weight("img_in", hidden, LATENT),
    weight("txt_in", hidden, text),
    weight("time_in.in_layer", hidden, 256, "F32"),
    weight("time_in.out_layer", hidden, hidden),
    weight("style_embedding", 256, hidden),
    weight("double_stream_modulation_img.lin", 6 * hidden, hidden),
    weight("double_stream_modulation_txt.lin", 6 * hidden, hidden),
    weight("single_stream_modulation.lin", 3 * hidden, hidden),
    ...doubles.flat(),
    weight("double_blocks.0.img_adapter", hidden, ODD_COLUMNS),
    weight("double_blocks.0.txt_adapter", hidden, 256, "F32"),
    ...singles.flat(),
    weight("final_layer.adaLN_modulation.1", 2 * hidden, hidden),
    weight("final_layer.linear", LATENT, hidden),
  ];
}

/** Returns the bytes of all values of `tensors`. */
export function dataBytes(tensors: readonly SyntheticTensor[]): number {
  return tensors.reduce(
    (sum, { shape, dtype }) =>
      sum + shape.reduce((product, size) => product * size, dtype === "F32" ? 4 : 2),
    0,
  );
}

/** Returns a model of at least `bytes`: `size`, with as many single blocks as it takes. */
export function fluxLikeOfBytes(size: ModelSize, bytes: number): SyntheticTensor[] {
  const base = dataBytes(fluxLikeTensors(size));
  const block = dataBytes(singleBlock(1, size));
  const more = Math.max(0, Math.ceil((bytes - base) / block));
  return fluxLikeTensors({ ...size, singleBlocks: size.singleBlocks + more });
}

/** Returns a model of `count` small layers: what costs time here is the number of layers. */
export function manyLayers(count: number): SyntheticTensor[] {
  return Array.from({ length: count }, (_, index) => weight(`blocks.${index}.linear`, 256, 256));
}

/** Returns a LoRA of `rank` for every weight of the blocks of `tensors`, named as ComfyUI exports are. */
export function loraLike(tensors: readonly SyntheticTensor[], rank: number): SyntheticTensor[] {
  return tensors.flatMap(({ name, shape }) => {
    if (!/_blocks\..*\.weight$/.test(name) || shape.length !== 2) return [];
    const key = `diffusion_model.${name.replace(/\.weight$/, "")}`;
    return [
      { name: `${key}.lora_A.weight`, dtype: "BF16", shape: [rank, shape[1]!], role: "vector" },
      { name: `${key}.lora_B.weight`, dtype: "BF16", shape: [shape[0]!, rank], role: "vector" },
    ] as const;
  });
}
