/**
 * ldlqBlock: rounds the columns of one block from the last to the first, each column corrected by the
 * errors of those already rounded (LDLQ; Chee et al., QuIP, 2023, equivalent to GPTQ).
 *
 * For each row r, for j = width - 1 down to 0, with s the scale of the element:
 *
 *     q = clamp(roundHalfEven((x[r,j] + feedback[r,j]) / s), -127, 127)
 *     e = x[r,j] - q * s
 *     feedback[r,i] += e * panel[j,i]    for i < j
 *
 * codes[r,j] = q, and e replaces x[r,j]. `feedback` comes with what earlier blocks contribute, which
 * `src/linalg/ldlq.ts` computes as one product; its contents afterwards mean nothing. All arithmetic is
 * f32, in this order, with a true division.
 *
 * Layout: codes i8, x f32, feedback f32 [rows, width] with their own elements from row to row;
 * panel f32 [width, width] unit lower, panelRow elements from row to row. The scale of the element is
 * scales[((firstRow + r) / groupRows) * scaleCols + columnGroups[j]], columnGroups i32 [width]. Any
 * alignment. feedbackRow and panelRow are multiples of 4 and at least width: rows are updated in whole
 * vectors, which spill into feedback[r, j ..] and read panel[j, j ..], both without effect.
 *
 * NaN (also 0 / 0): code 0; its row keeps spreading the NaN, giving code 0 from there on. Infinity: +-127.
 * Rows are independent, so any split over rows gives the same. Class: exact.
 */
export function ldlqBlock(
  codes: usize, x: usize, feedback: usize,
  panel: usize, scales: usize, columnGroups: usize,
  rows: usize, width: usize,
  codesRow: usize, xRow: usize, feedbackRow: usize, panelRow: usize,
  firstRow: usize, groupRows: usize, scaleCols: usize,
): void {
  let r: usize = 0;
  for (; r + 4 <= rows; r += 4) {
    const row = firstRow + r, stride = scaleCols << 2;
    roundFourRows(
      codes + r * codesRow, x + (r * xRow << 2), feedback + (r * feedbackRow << 2),
      panel, columnGroups, width, codesRow, xRow << 2, feedbackRow << 2, panelRow << 2,
      scales + (row / groupRows) * stride, scales + ((row + 1) / groupRows) * stride,
      scales + ((row + 2) / groupRows) * stride, scales + ((row + 3) / groupRows) * stride,
    );
  }
  for (; r < rows; r++) {
    roundOneRow(
      codes + r * codesRow, x + (r * xRow << 2), feedback + (r * feedbackRow << 2),
      panel, columnGroups, width, panelRow << 2,
      scales + (((firstRow + r) / groupRows) * scaleCols << 2),
    );
  }
}

/** Four rows side by side: their chains of dependent operations overlap. Strides in bytes. */
function roundFourRows(
  codes: usize, x: usize, feedback: usize,
  panel: usize, columnGroups: usize, width: usize,
  codesRow: usize, xRow: usize, feedbackRow: usize, panelRow: usize,
  scales0: usize, scales1: usize, scales2: usize, scales3: usize,
): void {
  const codes1 = codes + codesRow, codes2 = codes1 + codesRow, codes3 = codes2 + codesRow;
  const x1 = x + xRow, x2 = x1 + xRow, x3 = x2 + xRow;
  const t0 = feedback, t1 = t0 + feedbackRow, t2 = t1 + feedbackRow, t3 = t2 + feedbackRow;
  for (let j = width; j > 0;) {
    j--;
    const at = j << 2, group = <usize>load<i32>(columnGroups + at) << 2;
    const s0 = load<f32>(scales0 + group), s1 = load<f32>(scales1 + group);
    const s2 = load<f32>(scales2 + group), s3 = load<f32>(scales3 + group);
    const w0 = load<f32>(x + at), w1 = load<f32>(x1 + at);
    const w2 = load<f32>(x2 + at), w3 = load<f32>(x3 + at);
    const q0 = rounded((w0 + load<f32>(t0 + at)) / s0), q1 = rounded((w1 + load<f32>(t1 + at)) / s1);
    const q2 = rounded((w2 + load<f32>(t2 + at)) / s2), q3 = rounded((w3 + load<f32>(t3 + at)) / s3);
    store<i8>(codes + j, <i8>q0);
    store<i8>(codes1 + j, <i8>q1);
    store<i8>(codes2 + j, <i8>q2);
    store<i8>(codes3 + j, <i8>q3);
    const e0 = w0 - q0 * s0, e1 = w1 - q1 * s1, e2 = w2 - q2 * s2, e3 = w3 - q3 * s3;
    store<f32>(x + at, e0);
    store<f32>(x1 + at, e1);
    store<f32>(x2 + at, e2);
    store<f32>(x3 + at, e3);
    addFour(t0, t1, t2, t3, panel + j * panelRow, at, e0, e1, e2, e3);
  }
}

/** t_r[i] += e_r * panel[i] for `bytes` / 4 values, up to the end of the last vector. */
// @ts-ignore: decorator
@inline
function addFour(
  t0: usize, t1: usize, t2: usize, t3: usize, panel: usize, bytes: usize,
  e0: f32, e1: f32, e2: f32, e3: f32,
): void {
  const v0 = f32x4.splat(e0), v1 = f32x4.splat(e1), v2 = f32x4.splat(e2), v3 = f32x4.splat(e3);
  for (let i: usize = 0; i < bytes; i += 16) {
    const factor = v128.load(panel + i);
    v128.store(t0 + i, f32x4.add(v128.load(t0 + i), f32x4.mul(v0, factor)));
    v128.store(t1 + i, f32x4.add(v128.load(t1 + i), f32x4.mul(v1, factor)));
    v128.store(t2 + i, f32x4.add(v128.load(t2 + i), f32x4.mul(v2, factor)));
    v128.store(t3 + i, f32x4.add(v128.load(t3 + i), f32x4.mul(v3, factor)));
  }
}

function roundOneRow(
  codes: usize, x: usize, feedback: usize,
  panel: usize, columnGroups: usize, width: usize, panelRow: usize, scales: usize,
): void {
  for (let j = width; j > 0;) {
    j--;
    const at = j << 2, scale = load<f32>(scales + (<usize>load<i32>(columnGroups + at) << 2));
    const w = load<f32>(x + at), q = rounded((w + load<f32>(feedback + at)) / scale);
    store<i8>(codes + j, <i8>q);
    const e = w - q * scale, v = f32x4.splat(e), row = panel + j * panelRow;
    store<f32>(x + at, e);
    for (let i: usize = 0; i < at; i += 16) {
      const t = f32x4.add(v128.load(feedback + i), f32x4.mul(v, v128.load(row + i)));
      v128.store(feedback + i, t);
    }
  }
}

/** The nearest integer, ties to even, within +-127; 0 for NaN. */
// @ts-ignore: decorator
@inline
function rounded(t: f32): f32 {
  return t == t ? nearest(min<f32>(127, max<f32>(-127, t))) : 0;
}
