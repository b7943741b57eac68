/**
 * Which tensor makes the inputs of which linear layers, in text encoders: where a factor per channel can be
 * moved from inputs to weights without changing what the model computes.
 *
 * - A norm without a bias that feeds linear layers: y = w * x / rms(x), so its weight takes the factor.
 *   Gemma's norms multiply by 1 + w.
 * - A linear layer whose output reaches another one through products only: the value projection through the
 *   attention weights (with as many value as query heads), the up projection through the gate. Its rows
 *   take the factor; also through ReLU, which keeps positive factors.
 *
 * Pure; by names and shapes alone, T5 and Llama-like (Llama, Qwen, Mistral, Gemma) spellings.
 */

/** The module that takes the inverse factors. */
export type FoldProducer =
  | { readonly kind: "norm"; readonly name: string; readonly addsOne: boolean }
  | { readonly kind: "rows"; readonly name: string };

/** Linear layers that have the same inputs, and what makes these. */
export interface FoldGroup {
  readonly producer: FoldProducer;
  /** Names of the weights `[N, K]`: all that the producer feeds. */
  readonly consumers: readonly string[];
}

type Shapes = ReadonlyMap<string, readonly number[]>;

/** Returns the groups of a model, in the order of its tensors. `shapes`: of all tensors by name. */
export function foldGroups(shapes: Shapes): FoldGroup[] {
  const groups: FoldGroup[] = [];
  for (const name of shapes.keys()) {
    const t5 = /^(.*block\.\d+\.)layer\.([01])\.layer_norm\.weight$/.exec(name);
    if (t5 !== null) groups.push(...t5Groups(shapes, `${t5[1]}layer.${t5[2]}.`, name));
    const llama = /^(.*layers\.\d+\.)input_layernorm\.weight$/.exec(name);
    if (llama !== null) groups.push(...llamaGroups(shapes, llama[1]!));
  }
  return groups.filter((group) => fits(shapes, group));
}

function t5Groups(shapes: Shapes, layer: string, norm: string): FoldGroup[] {
  const attention = `${layer}SelfAttention.`, dense = `${layer}DenseReluDense.`;
  const producer: FoldProducer = { kind: "norm", name: norm, addsOne: false };
  if (shapes.has(`${attention}q.weight`)) {
    return [
      { producer, consumers: ["q", "k", "v"].map((part) => `${attention}${part}.weight`) },
      rowsGroup(`${attention}v.weight`, `${attention}o.weight`),
    ];
  }
  const gated = shapes.has(`${dense}wi_1.weight`);
  const inputs = gated ? ["wi_0", "wi_1"] : ["wi"];
  return [
    { producer, consumers: inputs.map((part) => `${dense}${part}.weight`) },
    rowsGroup(`${dense}${inputs.at(-1)}.weight`, `${dense}wo.weight`),
  ];
}

function llamaGroups(shapes: Shapes, layer: string): FoldGroup[] {
  const attention = `${layer}self_attn.`, mlp = `${layer}mlp.`;
  // Gemma 2 and 3 have norms behind attention and MLP too, and one of its own before the MLP.
  const isGemma = shapes.has(`${layer}pre_feedforward_layernorm.weight`);
  const norm = (part: string): FoldProducer => ({
    kind: "norm",
    name: `${layer}${part}.weight`,
    addsOne: isGemma,
  });
  // Linear attention and mixtures of experts have more that reads the norm.
  const isPlain = ![...LINEAR_ATTENTION, ...EXPERTS].some((part) => shapes.has(`${layer}${part}`));
  if (!isPlain) return [];
  const mlpNorm = isGemma ? "pre_feedforward_layernorm" : "post_attention_layernorm";
  return [
    {
      producer: norm("input_layernorm"),
      consumers: ["q_proj", "k_proj", "v_proj"].map((part) => `${attention}${part}.weight`),
    },
    rowsGroup(`${attention}v_proj.weight`, `${attention}o_proj.weight`),
    {
      producer: norm(mlpNorm),
      consumers: ["gate_proj", "up_proj"].map((part) => `${mlp}${part}.weight`),
    },
    rowsGroup(`${mlp}up_proj.weight`, `${mlp}down_proj.weight`),
  ];
}

const LINEAR_ATTENTION = ["linear_attn.in_proj_qkv.weight", "linear_attn.in_proj_qkvz.weight"];
const EXPERTS = ["mlp.gate.weight", "mlp.experts.0.up_proj.weight", "block_sparse_moe.gate.weight"];

function rowsGroup(producer: string, consumer: string): FoldGroup {
  return { producer: { kind: "rows", name: producer }, consumers: [consumer] };
}

/** Whether all is there, and the producer makes exactly the consumers' inputs. */
function fits(shapes: Shapes, { producer, consumers }: FoldGroup): boolean {
  const made = shapes.get(producer.name)?.[0];
  const rank = producer.kind === "norm" ? 1 : 2;
  if (made === undefined || shapes.get(producer.name)!.length !== rank) return false;
  // A norm's or a row's own bias would need the factor too.
  if (shapes.has(producer.name.replace(/weight$/, "bias"))) return false;
  return consumers.every((name) => {
    const shape = shapes.get(name);
    return shape?.length === 2 && shape[1] === made;
  });
}
