/** Which rows of which weights of a model each layer of a LoRA changes. Pure: names and shapes. */

import { layerName } from "../core/layer_name.ts";
import { hasBankShape } from "../core/expert_bank.ts";
import type { TensorInfo, Tensors } from "../core/tensor.ts";
import type { Candidate, KeyMap, ModuleScope } from "./key_map.ts";
import { matrixShape } from "../core/shape.ts";
import type { LoraModule, ParsedLora } from "./lora_module.ts";

/** Which of a module's changes a target takes. */
export type TargetPart =
  /** The change of the weight. */
  | "weight"
  /** The output side's bias of a low-rank pair, scaled like the pair. */
  | "upBias"
  /** A plain change of the bias. */
  | "diffBias";

/** Rows of one model tensor that one module changes. */
export interface LoraTarget {
  readonly module: LoraModule;
  readonly part: TargetPart;
  /** The model tensor, whole: a weight, or a bias (a column). */
  readonly weight: TensorInfo;
  /** Its columns as a matrix; 1 for a bias. */
  readonly cols: number;
  /** The rows that change. */
  readonly rowStart: number;
  readonly rowCount: number;
  /** The rows of the module's change that go there: this one and `rowCount - 1` after it. */
  readonly moduleRowStart: number;
  /** Whether those rows trade halves on the way. */
  readonly swapHalves: boolean;
}

/** A module, or a tensor of the file, that changes nothing in the model. */
export interface UnmatchedKey {
  /** The layer, or the tensor, as the file names it. */
  readonly key: string;
  readonly scope: ModuleScope;
  readonly reason: string;
}

/** A module whose layer is there, in another shape. */
export interface MismatchedKey {
  readonly key: string;
  readonly weightName: string;
  /** `[rows, cols]` of the module's change. */
  readonly shape: readonly [number, number];
  /** `[rows, cols]` of what it should change. */
  readonly wanted: readonly [number, number];
}

/** The reason given for tensors that belong to no adapted layer. */
export const NOT_ADAPTER = "not a tensor of any adapter";

/** Changes of a LoRA to a model. */
export interface LoraResolution {
  readonly targets: readonly LoraTarget[];
  readonly unmatched: readonly UnmatchedKey[];
  readonly mismatched: readonly MismatchedKey[];
  /** Modules with a target. */
  readonly resolved: number;
}

/**
 * Returns the targets of a LoRA's modules in a model, and what has none.
 *
 * @param lora a parsed file; its problems are not looked at.
 * @param modelTensors all tensors of the model.
 * @param keyMap `buildKeyMap(modelTensors)`, built once for several LoRAs.
 */
export function resolveLora(
  lora: ParsedLora,
  modelTensors: Tensors,
  keyMap: KeyMap,
): LoraResolution {
  const biases = new Map(
    modelTensors.filter((t) => t.name.endsWith("bias")).map((t) => [t.name, t]),
  );
  const bankModules = bankModulesOf(modelTensors);
  const targets: LoraTarget[] = [];
  const unmatched: UnmatchedKey[] = lora.unknown.map((key) => ({
    key,
    scope: { component: null, slot: null },
    reason: NOT_ADAPTER,
  }));
  const misfits: Misfit[] = [];
  const fittingScopes = new Set<string>();
  const taken = new Map<string, LoraTarget[]>();
  let resolved = 0;

  for (const module of lora.modules) {
    const { scope, candidates } = keyMap.find(module.key);
    const chosen = choose(module, candidates, scope);
    if (chosen.kind === "none") {
      const isOfExperts = candidates.length === 0 && holdsBanks(module.key, bankModules);
      const reason = isOfExperts ? EXPERT_PARAMETERS : chosen.reason;
      unmatched.push({ key: module.key, scope, reason });
      continue;
    }
    if (chosen.kind === "misfit") {
      misfits.push({ scope, entry: chosen.entry });
      continue;
    }
    fittingScopes.add(scopeKey(scope));
    const own = targetsOf(module, chosen.candidate, biases);
    const rival = own.targets.map((target) => overlapping(taken, target)).find((t) => t !== null);
    if (rival !== undefined && rival !== null) {
      const [key, name] = [rival.module.key, rival.weight.name].map((n) => JSON.stringify(n));
      const reason = `${key} already changes the same rows of ${name}`;
      unmatched.push({ key: module.key, scope, reason });
      continue;
    }
    for (const reason of own.missing) unmatched.push({ key: module.key, scope, reason });
    if (own.targets.length > 0) resolved++;
    for (const target of own.targets) {
      targets.push(target);
      const list = taken.get(target.weight.name);
      if (list === undefined) taken.set(target.weight.name, [target]);
      else list.push(target);
    }
  }

  const { others, mismatched } = sortMisfits(misfits, fittingScopes);
  return { targets, unmatched: [...unmatched, ...others], mismatched, resolved };
}

/** Text encoders share their layers' names: if no layer fits, it is another one's LoRA. */
function sortMisfits(
  misfits: readonly Misfit[],
  fittingScopes: ReadonlySet<string>,
): { readonly others: UnmatchedKey[]; readonly mismatched: MismatchedKey[] } {
  const others: UnmatchedKey[] = [], mismatched: MismatchedKey[] = [];
  for (const { scope, entry } of misfits) {
    if (scope.component === "text" && !fittingScopes.has(scopeKey(scope))) {
      others.push({ key: entry.key, scope, reason: "belongs to another text encoder" });
    } else {
      mismatched.push(entry);
    }
  }
  return { others, mismatched };
}

/** A module whose layer has another shape. */
interface Misfit {
  readonly scope: ModuleScope;
  readonly entry: MismatchedKey;
}

/** The modules of a model that hold expert banks. */
function bankModulesOf(tensors: Tensors): Set<string> {
  return new Set(
    tensors.filter(hasBankShape).map(({ name }) =>
      layerName(name).split(".").slice(0, -1).join(".")
    ),
  );
}

/** Why PEFT's LoRAs of parameters are not merged: their names are those of the module around them. */
const EXPERT_PARAMETERS =
  "it adapts parameters of a module of experts (target_parameters of PEFT), and the file does not say which; " +
  "merge it into the original weights with PEFT first";

/** Whether a name is that of a module with expert banks in it. */
function holdsBanks(key: string, modules: ReadonlySet<string>): boolean {
  const own = key.replace(/(\.base_layer)+$/, "");
  for (let at = 0; at >= 0; at = own.indexOf(".", at) + 1 || -1) {
    if (modules.has(own.slice(at))) return true;
  }
  return false;
}

type Choice =
  | { readonly kind: "fits"; readonly candidate: Candidate }
  | { readonly kind: "none"; readonly reason: string }
  | { readonly kind: "misfit"; readonly entry: MismatchedKey };

function choose(module: LoraModule, candidates: readonly Candidate[], scope: ModuleScope): Choice {
  const first = candidates[0];
  if (first === undefined) return { kind: "none", reason: "the model has no such layer" };
  const biasOnly = module.rows === 0;
  const fitting = candidates.filter((c) => biasOnly || fits(module, c));
  if (fitting.length === 0) {
    return {
      kind: "misfit",
      entry: {
        key: module.key,
        weightName: first.pieces.map((piece) => piece.weight.name).join(" + "),
        shape: [module.rows, module.cols],
        wanted: [first.rows, first.cols],
      },
    };
  }
  const sameSlot = fitting.filter((c) => c.slot === (scope.slot ?? c.slot));
  const [chosen, rival] = sameSlot.length > 0 ? sameSlot : fitting;
  if (rival !== undefined && rival.slot === chosen!.slot) {
    const names = [chosen!, rival].map((c) => JSON.stringify(c.pieces[0]!.weight.name));
    return { kind: "none", reason: `it may mean ${names.join(" or ")}` };
  }
  return { kind: "fits", candidate: chosen! };
}

function fits(module: LoraModule, candidate: Candidate): boolean {
  return module.rows === candidate.rows && module.cols === candidate.cols;
}

function targetsOf(
  module: LoraModule,
  candidate: Candidate,
  biases: ReadonlyMap<string, TensorInfo>,
): { targets: LoraTarget[]; missing: string[] } {
  const targets: LoraTarget[] = [];
  const missing: string[] = [];
  for (const piece of candidate.pieces) {
    const { weight, ...rows } = piece;
    if (module.rows > 0) {
      targets.push({ module, part: "weight", weight, cols: candidate.cols, ...rows });
    }
    for (const part of ["upBias", "diffBias"] as const) {
      const change = module.tensors[part];
      if (change === undefined) continue;
      const name = weight.name.replace(/weight$/, "bias");
      const bias = name === weight.name ? undefined : biases.get(name);
      if (bias === undefined || bias.shape[0] !== matrixShape(weight.shape)[0]) {
        missing.push(`${JSON.stringify(change.name)} changes a bias that the layer does not have`);
      } else if (matrixShape(change.shape)[0] !== candidate.rows) {
        missing.push(`${JSON.stringify(change.name)} has not ${candidate.rows} elements`);
      } else {
        targets.push({ module, part, weight: bias, cols: 1, ...rows });
      }
    }
  }
  return { targets, missing };
}

function overlapping(
  taken: ReadonlyMap<string, readonly LoraTarget[]>,
  target: LoraTarget,
): LoraTarget | null {
  return taken.get(target.weight.name)?.find((other) =>
    other.rowStart < target.rowStart + target.rowCount &&
    target.rowStart < other.rowStart + other.rowCount
  ) ?? null;
}

function scopeKey(scope: ModuleScope): string {
  return `${scope.component} ${scope.slot}`;
}
