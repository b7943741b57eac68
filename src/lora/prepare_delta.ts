/** From a target and the values of its module's tensors to the change that is merged. */

import { FormatError } from "../core/errors.ts";
import type { TensorInfo } from "../core/tensor.ts";
import type { DeltaForm, LoraDelta } from "./lora_delta.ts";
import { type LoraModule, type LoraRole, scalingOf } from "./lora_module.ts";
import { addLoraDelta } from "./merge.ts";
import type { LoraTarget } from "./resolve_lora.ts";

/** How {@link prepareDelta} gets at the file. */
export interface DeltaSource {
  /** The LoRA file, for messages. */
  readonly path: string;
  /** Returns the values of one of its tensors as f32, row-major. */
  read(tensor: TensorInfo): Float32Array;
}

/**
 * Returns the change of a target's rows, ready to be merged or sent to a worker.
 *
 * @param target a target of the resolution.
 * @param source the LoRA file.
 * @param options `strength`: how much of it is taken, the user's scale times the dampening.
 * @throws FormatError if alpha or a factor is not finite.
 */
export function prepareDelta(
  target: LoraTarget,
  source: DeltaSource,
  { strength }: { strength: number },
): LoraDelta {
  const { module, part, cols, rowStart, rowCount } = target;
  const read = (role: LoraRole) => readFinite(module, role, source);
  const plain = { rowStart, rowCount, cols, strength };
  if (part !== "weight") {
    const values = takeRows(read(part), 1, target);
    const scaling = part === "upBias" ? scalingOf(module, readAlpha(module, source)) : 1;
    return { ...plain, scaling, form: { kind: "diff", values }, magnitude: null };
  }
  return {
    ...plain,
    scaling: scalingOf(module, readAlpha(module, source)),
    form: makeForm(target, read),
    magnitude: module.dora ? takeRows(read("magnitude"), 1, target) : null,
  };
}

function makeForm(target: LoraTarget, read: (role: LoraRole) => Float32Array): DeltaForm {
  const { module, cols } = target;
  switch (module.kind) {
    case "lora": {
      const rank = rankOf(module, "up");
      const a = module.tensors.mid === undefined ? read("down") : foldMiddle(module, read);
      return { kind: "lora", rank, a, b: takeRows(read("up"), rank, target) };
    }
    case "loha": {
      const rank1 = rankOf(module, "w1a");
      const rank2 = rankOf(module, "w2a");
      return {
        kind: "loha",
        rank1,
        a1: read("w1b"),
        b1: takeRows(read("w1a"), rank1, target),
        rank2,
        a2: read("w2b"),
        b2: takeRows(read("w2a"), rank2, target),
      };
    }
    case "lokr": {
      const first = kroneckerFactor(module, "w1", read);
      const second = kroneckerFactor(module, "w2", read);
      const form: DeltaForm = {
        kind: "lokr",
        w1: first.values,
        cols1: first.cols,
        w2: second.values,
        cols2: second.cols,
        rows2: second.values.length / second.cols,
        firstRow: target.moduleRowStart,
      };
      // Rows of a Kronecker product cannot trade places within its factors: write them out.
      return target.swapHalves ? writtenOut(form, target) : form;
    }
    case "diff":
      return { kind: "diff", values: takeRows(read("diff"), cols, target) };
  }
}

/** The columns of a B-like factor: its rank. */
function rankOf(module: LoraModule, role: LoraRole): number {
  const shape = module.tensors[role]!.shape;
  return shape.slice(1).reduce((product, size) => product * size, 1);
}

/**
 * Folds the middle factor of a convolution into the first: `a[p, i, s] = sum_q mid[p, q, s] down[q, i]`
 * with `s` over the kernel, so that the change is `up · a` as without one.
 */
function foldMiddle(module: LoraModule, read: (role: LoraRole) => Float32Array): Float32Array {
  const [outer, inner, ...kernel] = module.tensors.mid!.shape as [number, number, ...number[]];
  const size = kernel.reduce((product, n) => product * n, 1);
  const inputs = module.cols / size;
  const mid = read("mid");
  const down = read("down");
  const folded = new Float32Array(outer * module.cols);
  for (let p = 0; p < outer; p++) {
    for (let i = 0; i < inputs; i++) {
      for (let s = 0; s < size; s++) {
        let sum = 0;
        for (let q = 0; q < inner; q++) {
          sum += mid[(p * inner + q) * size + s]! * down[q * inputs + i]!;
        }
        folded[p * module.cols + i * size + s] = sum;
      }
    }
  }
  return folded;
}

function kroneckerFactor(
  module: LoraModule,
  name: "w1" | "w2",
  read: (role: LoraRole) => Float32Array,
): { values: Float32Array; cols: number } {
  const whole = module.tensors[name];
  if (whole !== undefined) return { values: read(name), cols: rankOf(module, name) };
  const rank = rankOf(module, `${name}a`);
  const left = read(`${name}a`);
  const right = read(`${name}b`);
  const rows = left.length / rank;
  const cols = right.length / rank;
  const values = new Float32Array(rows * cols);
  addLoraDelta(values, {
    rowStart: 0,
    rowCount: rows,
    cols,
    scaling: 1,
    strength: 1,
    form: { kind: "lora", rank, a: right, b: left },
    magnitude: null,
  });
  return { values, cols };
}

function writtenOut(form: DeltaForm, target: LoraTarget): DeltaForm {
  const { rowCount, cols } = target;
  const values = new Float32Array(rowCount * cols);
  const scale = { scaling: 1, strength: 1, magnitude: null };
  addLoraDelta(values, { rowStart: 0, rowCount, cols, form, ...scale });
  return { kind: "diff", values: takeRows(values, cols, { ...target, moduleRowStart: 0 }) };
}

/** Returns the rows of `x` (`[*, width]`) that a target takes, in the order it takes them. */
function takeRows(
  x: Float32Array,
  width: number,
  { moduleRowStart, rowCount, swapHalves }: LoraTarget,
): Float32Array {
  const rows = x.subarray(moduleRowStart * width, (moduleRowStart + rowCount) * width);
  if (!swapHalves) return rows;
  const half = (rowCount / 2) * width;
  const swapped = new Float32Array(rows.length);
  swapped.set(rows.subarray(half), 0);
  swapped.set(rows.subarray(0, half), half);
  return swapped;
}

/**
 * Returns the alpha of a module; null if it is the rank.
 *
 * @throws FormatError if it is not finite.
 */
export function readAlpha(module: LoraModule, source: DeltaSource): number | null {
  if (module.alpha.kind === "rank") return null;
  if (module.alpha.kind === "metadata") return module.alpha.value;
  const alpha = source.read(module.tensors.alpha!)[0]!;
  if (Number.isFinite(alpha)) return alpha;
  throw new FormatError(`alpha is ${alpha}, a finite number is needed`, {
    path: source.path,
    tensor: module.alpha.name,
  });
}

/**
 * Returns the values of one of a module's tensors.
 *
 * @throws FormatError if one is not finite.
 */
export function readFinite(module: LoraModule, role: LoraRole, source: DeltaSource): Float32Array {
  const tensor = module.tensors[role]!;
  const values = source.read(tensor);
  // x - x is 0 for finite x, NaN otherwise, and NaN sticks: one pass without branches.
  let probe = 0;
  for (let i = 0; i < values.length; i++) probe += values[i]! - values[i]!;
  if (probe === 0) return values;
  const first = values.findIndex((value) => !Number.isFinite(value));
  throw new FormatError(`element ${first} is ${values[first]}, finite numbers are needed`, {
    path: source.path,
    tensor: tensor.name,
  });
}
