/**
 * The tensors of a LoRA file, grouped into adapted layers. Names are read by their endings alone;
 * what a layer is called in a model is the key map's business.
 */

import type { TensorInfo, Tensors } from "../core/tensor.ts";
import { FormatError, UnsupportedError } from "../core/errors.ts";
import { readLoraMetadata } from "./lora_metadata.ts";
import type { AlphaSource, LoraModule, LoraProblem, LoraRole, ParsedLora } from "./lora_module.ts";
import { makeModule } from "./lora_pair.ts";

/** Endings whose group 1 is the layer and group 2 the word that `ROLES` reads. */
const ENDINGS: readonly RegExp[] = [
  /^(.+)\.lora_(A|B|down|up|mid)(?:\.[\w-]+)?\.weight$/, // `.default.` and other adapter names
  /^(.+)\.lora_(A|B|down|up)$/,
  /^(.+)\.lora(?:_linear_layer)?\.(down|up)\.weight$/,
  /^(.+)_lora\.(down|up)\.weight$/,
  /^(.+\.(?:qkv|proj)_lora[12])\.(down|up)\.weight$/,
  /^(.+)\.lora_(B\.bias|up\.bias|B\.[\w-]+\.bias)$/,
  /^(.+)\.(alpha|dora_scale|diff|diff_b|w_norm|b_norm)$/,
  /^(.+)\.(lora_magnitude_vector)(?:\.[\w-]+)?(?:\.weight)?$/,
  /^(.+)\.hada_(w[12]_[ab])$/,
  /^(.+)\.lokr_(w[12](?:_[ab])?)$/,
];

const ROLES: Readonly<Record<string, LoraRole>> = {
  A: "down",
  down: "down",
  B: "up",
  up: "up",
  mid: "mid",
  "B.bias": "upBias",
  "up.bias": "upBias",
  alpha: "alpha",
  dora_scale: "magnitude",
  lora_magnitude_vector: "magnitude",
  diff: "diff",
  w_norm: "diff",
  diff_b: "diffBias",
  b_norm: "diffBias",
  w1: "w1",
  w1_a: "w1a",
  w1_b: "w1b",
  w2: "w2",
  w2_a: "w2a",
  w2_b: "w2b",
};

/** Adapters that are recognised but not merged, by an ending that only they have. */
const UNSUPPORTED: readonly (readonly [RegExp, string])[] = [
  [/^(.+)\.hada_t[12]$/, "LoHa with Tucker factors"],
  [/^(.+)\.lokr_t2$/, "LoKr with a Tucker factor"],
  [/^(.+)\.(?:oft_blocks|oft_diag|oft_R(?:\.[\w-]+)?\.weight|boft_\w+)$/, "OFT"],
  [/^(.+)\.(?:a1|a2|b1|b2|bm1|bm2)\.weight$/, "GLoRA"],
  [/^(.+)\.on_input$/, "(IA)³"],
  [/^(.+)\.(?:set_weight|reshape_weight)$/, "a replaced or reshaped weight"],
  [/^(.+)\.lora_embedding_[AB](?:\.[\w-]+)?$/, "LoRA of an embedding"],
  [/^(.+)\.lora_(?:A|down)(?:\.[\w-]+)?\.bias$/, "LoRA with a bias on its inner side"],
];

/** How many tensor names a message shows. */
const SHOWN = 3;

/**
 * Returns the adapted layers of a LoRA file, and all that is wrong with it. Nothing is thrown: see
 * {@link checkLora}.
 *
 * @param tensors the tensors of the file.
 * @param metadata the `__metadata__` of its header, which may hold alphas; null if there is none.
 */
export function parseLora(
  tensors: Tensors,
  metadata: Readonly<Record<string, string>> | null = null,
): ParsedLora {
  const fromMetadata = readLoraMetadata(metadata);
  const { problems, unknown, layers, faulty } = gatherRoles(tensors);
  const modules: LoraModule[] = [];
  for (const [key, roles] of layers) {
    if (faulty.has(key)) continue;
    // `X.alpha` may be a layer's own parameter, but never if nothing else adapts the layer.
    if (Object.keys(roles).length === 1 && roles.alpha !== undefined) {
      unknown.push(roles.alpha.name);
      continue;
    }
    const made = makeModule(key, roles, {
      alpha: alphaSource(roles, fromMetadata.alphaOf(key)),
      rankStabilized: fromMetadata.rankStabilized(key),
    });
    if ("message" in made) {
      problems.push(made);
      continue;
    }
    modules.push(made);
    const rank = fromMetadata.rankOf(key);
    const counts = made.kind === "lora" && made.alpha.kind === "metadata" && rank !== null;
    if (counts && rank.value !== made.rank) {
      problems.push({
        module: key,
        tensor: made.tensors.down?.name ?? null,
        message: `${rank.key} is ${rank.value}, the pair has rank ${made.rank}: ` +
          "the configuration is another adapter's",
        unsupported: false,
      });
    }
  }
  // Metadata that nothing needs may be wrong: resized files say "Dynamic", and have alpha tensors.
  const needsMetadata = modules.some((m) => m.rank !== null && m.alpha.kind !== "tensor");
  if (needsMetadata) problems.unshift(...fromMetadata.problems);
  return { modules, problems, unknown };
}

/** The tensors of a LoRA file by layer and role. */
interface GatheredRoles {
  readonly layers: ReadonlyMap<string, Partial<Record<LoraRole, TensorInfo>>>;
  /** Layers with a fault already named: the rest of their tensors would only repeat it. */
  readonly faulty: ReadonlySet<string>;
  readonly problems: LoraProblem[];
  /** Names that are no part of an adapter. */
  readonly unknown: string[];
}

function gatherRoles(tensors: Tensors): GatheredRoles {
  const problems: LoraProblem[] = [], unknown: string[] = [];
  const layers = new Map<string, Partial<Record<LoraRole, TensorInfo>>>();
  const faulty = new Set<string>();
  for (const tensor of tensors) {
    const ending = readEnding(tensor.name);
    if (ending === null) {
      const other = unsupportedKind(tensor.name);
      if (other === null) {
        unknown.push(tensor.name);
      } else if (!faulty.has(other.module)) {
        faulty.add(other.module);
        problems.push({
          module: other.module,
          tensor: tensor.name,
          message: `${other.kind} is not supported`,
          unsupported: true,
        });
      }
      continue;
    }
    let roles = layers.get(ending.module);
    if (roles === undefined) layers.set(ending.module, roles = {});
    const taken = roles[ending.role];
    if (taken === undefined) {
      roles[ending.role] = tensor;
      continue;
    }
    faulty.add(ending.module);
    problems.push({
      module: ending.module,
      tensor: tensor.name,
      message: `${JSON.stringify(taken.name)} is the same part of the same layer`,
      unsupported: false,
    });
  }
  return { layers, faulty, problems, unknown };
}

/**
 * Throws what keeps a LoRA file from being merged: its first problem, with the number of the others.
 *
 * @throws FormatError if the file breaks its rules or holds no adapter; UnsupportedError if it
 *   holds one of a kind that is not merged.
 */
export function checkLora(path: string, lora: ParsedLora): void {
  const problem = lora.problems.find((p) => !p.unsupported) ?? lora.problems[0];
  if (problem === undefined) {
    if (lora.modules.length > 0) return;
    const names = lora.unknown.slice(0, SHOWN).map((name) => JSON.stringify(name)).join(", ");
    throw new FormatError(
      `no LoRA tensors are in it${names === "" ? "" : `, its first tensors are ${names}`}`,
      { path },
    );
  }
  const others = lora.problems.length - 1;
  const more = others === 0 ? "" : ` (and ${others} more such)`;
  const layer = problem.module === null ? "" : `layer ${JSON.stringify(problem.module)}: `;
  const rule = `${layer}${problem.message}${more}`;
  if (problem.unsupported) {
    throw new UnsupportedError(`Cannot merge LoRA ${JSON.stringify(path)}: ${rule}`);
  }
  throw new FormatError(
    rule,
    problem.tensor === null ? { path } : { path, tensor: problem.tensor },
  );
}

function readEnding(name: string): { module: string; role: LoraRole } | null {
  for (const ending of ENDINGS) {
    const match = ending.exec(name);
    if (match === null) continue;
    const word = match[2]!.replace(/^B\..+\.bias$/, "B.bias");
    return { module: match[1]!, role: ROLES[word]! };
  }
  return null;
}

function unsupportedKind(name: string): { module: string; kind: string } | null {
  for (const [ending, kind] of UNSUPPORTED) {
    const match = ending.exec(name);
    if (match !== null) return { module: match[1]!, kind };
  }
  return null;
}

function alphaSource(
  roles: Partial<Record<LoraRole, TensorInfo>>,
  metadata: { key: string; value: number } | null,
): AlphaSource {
  if (roles.alpha !== undefined) return { kind: "tensor", name: roles.alpha.name };
  if (metadata !== null) return { kind: "metadata", ...metadata };
  return { kind: "rank" };
}
