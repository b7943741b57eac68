/**
 * The change that one module makes to rows of one weight, as plain arrays: what a worker is sent.
 * Row `i` of the change belongs to row `rowStart + i` of the weight.
 */

/** The factors of a change; all row-major. `n` is the number of rows, `k` of columns. */
export type DeltaForm =
  /** `b · a`: a `[rank, k]`, b `[n, rank]`. */
  | {
    readonly kind: "lora";
    readonly rank: number;
    readonly a: Float32Array;
    readonly b: Float32Array;
  }
  /** `(b1 · a1) ⊙ (b2 · a2)`: shapes as for `lora`, each pair with its own rank. */
  | {
    readonly kind: "loha";
    readonly rank1: number;
    readonly a1: Float32Array;
    readonly b1: Float32Array;
    readonly rank2: number;
    readonly a2: Float32Array;
    readonly b2: Float32Array;
  }
  /**
   * `w1 ⊗ w2`: w1 `[*, cols1]`, w2 `[rows2, cols2]`, `k = cols1 * cols2`. The change begins at row
   * `firstRow` of the product.
   */
  | {
    readonly kind: "lokr";
    readonly w1: Float32Array;
    readonly cols1: number;
    readonly w2: Float32Array;
    readonly rows2: number;
    readonly cols2: number;
    readonly firstRow: number;
  }
  /** The change itself, `[n, k]`. */
  | { readonly kind: "diff"; readonly values: Float32Array };

/** The change of a weight's rows `rowStart .. rowStart + rowCount - 1`. */
export interface LoraDelta {
  readonly rowStart: number;
  readonly rowCount: number;
  /** Columns of the weight as a matrix. */
  readonly cols: number;
  /** `alpha / rank`; belongs to the change, also inside DoRA's norm. */
  readonly scaling: number;
  /** How much of the change is taken: the user's scale times the dampening. */
  readonly strength: number;
  readonly form: DeltaForm;
  /** DoRA: the norm that each row gets, `[rowCount]`; null for the other kinds. */
  readonly magnitude: Float32Array | null;
}

/**
 * Returns the part of a change that touches the weight's rows `rowStart .. rowEnd - 1`, without
 * copying, or null if none does. For sending a worker no more than its rows need.
 */
export function sliceDelta(delta: LoraDelta, rowStart: number, rowEnd: number): LoraDelta | null {
  const start = Math.max(rowStart, delta.rowStart);
  const end = Math.min(rowEnd, delta.rowStart + delta.rowCount);
  if (start >= end) return null;
  const skip = start - delta.rowStart;
  const rows = end - start;
  return {
    ...delta,
    rowStart: start,
    rowCount: rows,
    form: sliceForm(delta.form, { skip, rows, cols: delta.cols }),
    magnitude: delta.magnitude?.subarray(skip, skip + rows) ?? null,
  };
}

function sliceForm(
  form: DeltaForm,
  { skip, rows, cols }: { skip: number; rows: number; cols: number },
): DeltaForm {
  const part = (x: Float32Array, width: number) => x.subarray(skip * width, (skip + rows) * width);
  switch (form.kind) {
    case "lora":
      return { ...form, b: part(form.b, form.rank) };
    case "loha":
      return { ...form, b1: part(form.b1, form.rank1), b2: part(form.b2, form.rank2) };
    case "lokr":
      return { ...form, firstRow: form.firstRow + skip };
    case "diff":
      return { ...form, values: part(form.values, cols) };
  }
}
