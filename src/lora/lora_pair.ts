/** Checks the tensors of one adapted layer against each other: kind, rank, shape of the change. */

import { elementCount } from "../core/shape.ts";
import type { TensorInfo } from "../core/tensor.ts";
import { isFloatDType } from "../core/dtype.ts";
import { matrixShape } from "../core/shape.ts";
import type { AlphaSource, LoraModule, LoraProblem, LoraRole } from "./lora_module.ts";

/** The tensors of one layer, by role. */
export type RoleMap = Readonly<Partial<Record<LoraRole, TensorInfo>>>;

/** Facts for {@link makeModule} besides the tensors. */
export interface ModuleAlpha {
  readonly alpha: AlphaSource;
  readonly rankStabilized: boolean;
}

/**
 * Returns the module of `key`, or what is wrong with it.
 *
 * @param key the layer as the file names it.
 * @param tensors its tensors, at least one.
 */
export function makeModule(
  key: string,
  tensors: RoleMap,
  { alpha, rankStabilized }: ModuleAlpha,
): LoraModule | LoraProblem {
  const problem = (role: LoraRole | null, message: string, unsupported = false): LoraProblem => ({
    module: key,
    tensor: role === null ? null : tensors[role]?.name ?? null,
    message,
    unsupported,
  });
  for (const [role, tensor] of Object.entries(tensors) as [LoraRole, TensorInfo][]) {
    if (!isFloatDType(tensor.dtype)) {
      return problem(role, `its dtype is ${tensor.dtype}, which does not hold real numbers`);
    }
    if (role !== "alpha" && elementCount(tensor.shape) === 0) {
      return problem(role, `it has no elements: its shape is ${shapeText(tensor)}, so rank 0`);
    }
  }
  if (tensors.alpha !== undefined && elementCount(tensors.alpha.shape) !== 1) {
    return problem("alpha", `alpha is one number, its shape is ${shapeText(tensors.alpha)}`);
  }

  const shape = changeShape(tensors);
  if ("message" in shape) return problem(shape.role, shape.message, shape.unsupported);
  const { kind, rank, rows, cols } = shape;
  const upBias = tensors.upBias;
  if (upBias !== undefined && elementCount(upBias.shape) !== rows) {
    return problem("upBias", `its shape is ${shapeText(upBias)}, the layer has ${rows} outputs`);
  }
  const magnitude = tensors.magnitude;
  const wrong = magnitude === undefined ? null : magnitudeProblem(magnitude, shape);
  if (wrong !== null) return problem("magnitude", wrong.message, wrong.unsupported);
  return {
    key,
    kind,
    tensors,
    alpha,
    rankStabilized,
    rank,
    rows,
    cols,
    dora: magnitude !== undefined,
  };
}

/** What is wrong with the norms of a DoRA; null: nothing. */
function magnitudeProblem(
  magnitude: TensorInfo,
  { kind, rows, cols }: ChangeShape,
): { readonly message: string; readonly unsupported?: boolean } | null {
  if (kind === "diff") return { message: "it has no low-rank pair to go with" };
  const [first] = matrixShape(magnitude.shape);
  const count = elementCount(magnitude.shape);
  if (count === cols && first !== rows) {
    return {
      message: "DoRA with norms along the input is not supported, only along the output",
      unsupported: true,
    };
  }
  if (count === rows && first === rows) return null;
  return { message: `its shape is ${shapeText(magnitude)}, ${rows} rows need [${rows}]` };
}

interface ChangeShape {
  readonly kind: LoraModule["kind"];
  readonly rank: number | null;
  readonly rows: number;
  readonly cols: number;
}

interface ShapeFault {
  readonly role: LoraRole;
  readonly message: string;
  readonly unsupported?: boolean;
}

function changeShape(t: RoleMap): ChangeShape | ShapeFault {
  const families = [
    [t.down, t.up, t.mid],
    [t.w1, t.w1a, t.w1b, t.w2, t.w2a, t.w2b],
    [t.diff],
  ].map((family) => family.some((tensor) => tensor !== undefined));
  if (families.filter(Boolean).length > 1) {
    return { role: "alpha", message: "it has the tensors of two kinds of adapter" };
  }
  if (families[0]) return lowRankShape(t);
  if (families[1]) return isLokr(t) ? lokrShape(t) : lohaShape(t);
  if (t.diff !== undefined) {
    const [rows, cols] = matrixShape(t.diff.shape);
    return { kind: "diff", rank: null, rows, cols };
  }
  if (t.diffBias !== undefined) return { kind: "diff", rank: null, rows: 0, cols: 0 };
  if (t.upBias !== undefined) {
    return { role: "upBias", message: "it has no low-rank pair to go with" };
  }
  if (t.magnitude !== undefined) {
    return { role: "magnitude", message: "it has no low-rank pair to go with" };
  }
  return { role: "alpha", message: "it has an alpha and no other tensor" };
}

function lowRankShape(t: RoleMap): ChangeShape | ShapeFault {
  const { down, up, mid } = t;
  if (down === undefined || up === undefined) {
    const there = down === undefined ? "up" : "down";
    return {
      role: t[there] === undefined ? "mid" : there,
      message: `the other half of the pair, ${there === "up" ? "down (A)" : "up (B)"}, is missing`,
    };
  }
  if (down.shape.length < 2 || up.shape.length < 2) {
    const role = down.shape.length < 2 ? "down" : "up";
    return { role, message: `its shape is ${shapeText(t[role]!)}, a matrix is needed` };
  }
  const [rank, inputs] = matrixShape(down.shape);
  const [rows, upRank] = matrixShape(up.shape);
  if (mid !== undefined) {
    const [first, second, ...kernel] = mid.shape;
    if (first !== upRank || second !== rank || inputs !== down.shape[1]) {
      return {
        role: "mid",
        message: `its shape is ${shapeText(mid)}, the pair ${shapeText(down)}, ${
          shapeText(up)
        } needs [${upRank}, ${rank}, ...]`,
      };
    }
    const cols = kernel.reduce((product, size) => product * size, inputs);
    return { kind: "lora", rank, rows, cols };
  }
  if (upRank !== rank) {
    return {
      role: "up",
      message: `its rank is ${upRank} (shape ${shapeText(up)}), but that of ${
        JSON.stringify(down.name)
      } is ${rank} (shape ${shapeText(down)})`,
    };
  }
  return { kind: "lora", rank, rows, cols: inputs };
}

/** LoHa and LoKr share their roles; their names differ. */
function isLokr(t: RoleMap): boolean {
  return [t.w1, t.w1a, t.w1b, t.w2, t.w2a, t.w2b].some((w) => w?.name.includes(".lokr_"));
}

function lohaShape(t: RoleMap): ChangeShape | ShapeFault {
  const first = productShape(t, "w1a", "w1b");
  if ("message" in first) return first;
  const second = productShape(t, "w2a", "w2b");
  if ("message" in second) return second;
  if (first.rows !== second.rows || first.cols !== second.cols) {
    return {
      role: "w2a",
      message:
        `its product is ${second.rows} x ${second.cols}, the other one ${first.rows} x ${first.cols}`,
    };
  }
  return { kind: "loha", rank: first.rank, rows: first.rows, cols: first.cols };
}

function lokrShape(t: RoleMap): ChangeShape | ShapeFault {
  const first = factorShape(t, "w1");
  if ("message" in first) return first;
  const second = factorShape(t, "w2");
  if ("message" in second) return second;
  return {
    kind: "lokr",
    // As the trainers have it: the second factor's rank counts if both have one.
    rank: second.rank ?? first.rank,
    rows: first.rows * second.rows,
    cols: first.cols * second.cols,
  };
}

function factorShape(t: RoleMap, name: "w1" | "w2"): Omit<ChangeShape, "kind"> | ShapeFault {
  const whole = t[name];
  if (whole === undefined) return productShape(t, `${name}a`, `${name}b`);
  if (whole.shape.length < 2) {
    return { role: name, message: `its shape is ${shapeText(whole)}, a matrix is needed` };
  }
  const [rows, cols] = matrixShape(whole.shape);
  return { rank: null, rows, cols };
}

function productShape(
  t: RoleMap,
  leftRole: "w1a" | "w2a",
  rightRole: "w1b" | "w2b",
): { rank: number; rows: number; cols: number } | ShapeFault {
  const left = t[leftRole];
  const right = t[rightRole];
  if (left === undefined || right === undefined) {
    const there = left !== undefined ? leftRole : right !== undefined ? rightRole : null;
    const missing = left === undefined && right === undefined
      ? `${leftRole.slice(0, 2)}`
      : left === undefined
      ? `${leftRole.slice(0, 2)}_a`
      : `${rightRole.slice(0, 2)}_b`;
    const other = t.w1 ?? t.w1a ?? t.w1b ?? t.w2 ?? t.w2a ?? t.w2b;
    const role = there ?? (Object.keys(t) as LoraRole[]).find((r) => t[r] === other)!;
    return { role, message: `its factor ${missing} is missing` };
  }
  const [rows, leftRank] = matrixShape(left.shape);
  const [rank, cols] = matrixShape(right.shape);
  if (leftRank !== rank) {
    return {
      role: leftRole,
      message: `its rank is ${leftRank} (shape ${shapeText(left)}), but that of ${
        JSON.stringify(right.name)
      } is ${rank} (shape ${shapeText(right)})`,
    };
  }
  return { rank, rows, cols };
}

function shapeText(tensor: TensorInfo): string {
  return `[${tensor.shape.join(", ")}]`;
}
