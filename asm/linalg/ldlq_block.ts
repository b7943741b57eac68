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
 *
 * Four rows go side by side, one in each lane, and four columns at a time: the squares where they meet are
 * transposed, and all columns to the left take the four errors in one pass, in the order above. Within a square every
 * step waits for the one before, so two squares of other rows follow each other: the processor does both at a time.
 */
export function ldlqBlock(
  codes: usize, x: usize, feedback: usize,
  panel: usize, scales: usize, columnGroups: usize,
  rows: usize, width: usize,
  codesRow: usize, xRow: usize, feedbackRow: usize, panelRow: usize,
  firstRow: usize, groupRows: usize, scaleCols: usize,
): void {
  let r: usize = 0;
  const whole = width & ~3, stride = scaleCols << 2;
  const xBytes = xRow << 2, fedBytes = feedbackRow << 2, panelBytes = panelRow << 2;
  for (; r + 4 <= rows; r += 4) {
    const hasTwo = r + 8 <= rows;
    const own: usize = hasTwo ? 8 : 4;
    const to = codes + r * codesRow, from = x + r * xBytes, fed = feedback + r * fedBytes;
    for (let i: usize = 0; whole < width && i < own; i++) {
      roundOneRow(
        to + i * codesRow, from + i * xBytes, fed + i * fedBytes,
        panel, columnGroups, whole, width, panelBytes,
        scales + ((firstRow + r + i) / groupRows) * stride,
      );
    }
    for (let j = whole; j > 0;) {
      j -= 4;
      const at = j << 2, corner = panel + j * panelBytes, groups = columnGroups + at;
      roundSquare(
        to + j, from + at, fed + at, corner + at, groups, codesRow, xBytes, fedBytes, panelBytes,
        scales, stride, firstRow + r, groupRows,
      );
      if (hasTwo) {
        roundSquare(
          to + 4 * codesRow + j, from + 4 * xBytes + at, fed + 4 * fedBytes + at, corner + at,
          groups, codesRow, xBytes, fedBytes, panelBytes, scales, stride, firstRow + r + 4, groupRows,
        );
      }
      for (let i: usize = 0; i < own; i += 2) {
        addToTwo(fed + i * fedBytes, fedBytes, corner, panelBytes, at, from + i * xBytes + at, xBytes);
      }
    }
    if (hasTwo) r += 4;
  }
  for (; r < rows; r++) {
    roundOneRow(
      codes + r * codesRow, x + r * xBytes, feedback + r * fedBytes,
      panel, columnGroups, 0, width, panelBytes, scales + ((firstRow + r) / groupRows) * stride,
    );
  }
}

/**
 * Four columns of four rows, from the last; all addresses are those of their corner, `panel` that of the square on its
 * diagonal, strides in bytes. The first row is number `row` of the layer.
 */
function roundSquare(
  codes: usize, x: usize, feedback: usize, panel: usize, columnGroups: usize,
  codesRow: usize, xRow: usize, feedbackRow: usize, panelRow: usize,
  scales: usize, stride: usize, row: usize, groupRows: usize,
): void {
  const x1 = x + xRow, x2 = x1 + xRow, x3 = x2 + xRow;
  const t1 = feedback + feedbackRow, t2 = t1 + feedbackRow, t3 = t2 + feedbackRow;
  const scales0 = scales + (row / groupRows) * stride;
  const scales1 = scales + ((row + 1) / groupRows) * stride;
  const scales2 = scales + ((row + 2) / groupRows) * stride;
  const scales3 = scales + ((row + 3) / groupRows) * stride;
  // Errors to feed back, and the weights: a vector for each column, a lane for each row.
  let a = v128.load(feedback), b = v128.load(t1), c = v128.load(t2), d = v128.load(t3);
  let ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
  let f0 = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), f1 = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);
  ab = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
  cd = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  let f2 = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5);
  const f3 = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);
  a = v128.load(x);
  b = v128.load(x1);
  c = v128.load(x2);
  d = v128.load(x3);
  ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
  cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
  let e0 = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), e1 = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);
  ab = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
  cd = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  let e2 = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), e3 = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);

  let s = scalesOf(scales0, scales1, scales2, scales3, <usize>load<i32>(columnGroups, 12) << 2);
  const q3 = rounded(f32x4.div(f32x4.add(e3, f3), s));
  e3 = f32x4.sub(e3, f32x4.mul(q3, s));
  let p = v128.load(panel + 3 * panelRow);
  f2 = f32x4.add(f2, f32x4.mul(e3, v128.shuffle<f32>(p, p, 2, 2, 2, 2)));
  f1 = f32x4.add(f1, f32x4.mul(e3, v128.shuffle<f32>(p, p, 1, 1, 1, 1)));
  f0 = f32x4.add(f0, f32x4.mul(e3, v128.shuffle<f32>(p, p, 0, 0, 0, 0)));
  s = scalesOf(scales0, scales1, scales2, scales3, <usize>load<i32>(columnGroups, 8) << 2);
  const q2 = rounded(f32x4.div(f32x4.add(e2, f2), s));
  e2 = f32x4.sub(e2, f32x4.mul(q2, s));
  p = v128.load(panel + 2 * panelRow);
  f1 = f32x4.add(f1, f32x4.mul(e2, v128.shuffle<f32>(p, p, 1, 1, 1, 1)));
  f0 = f32x4.add(f0, f32x4.mul(e2, v128.shuffle<f32>(p, p, 0, 0, 0, 0)));
  s = scalesOf(scales0, scales1, scales2, scales3, <usize>load<i32>(columnGroups, 4) << 2);
  const q1 = rounded(f32x4.div(f32x4.add(e1, f1), s));
  e1 = f32x4.sub(e1, f32x4.mul(q1, s));
  p = v128.load(panel + panelRow);
  f0 = f32x4.add(f0, f32x4.mul(e1, v128.shuffle<f32>(p, p, 0, 0, 0, 0)));
  s = scalesOf(scales0, scales1, scales2, scales3, <usize>load<i32>(columnGroups) << 2);
  const q0 = rounded(f32x4.div(f32x4.add(e0, f0), s));
  e0 = f32x4.sub(e0, f32x4.mul(q0, s));

  // A lane has the four codes of its row.
  const bytes = v128.or(
    v128.or(byteOf(q0), i32x4.shl(byteOf(q1), 8)),
    v128.or(i32x4.shl(byteOf(q2), 16), i32x4.shl(byteOf(q3), 24)),
  );
  v128.store32_lane(codes, bytes, 0);
  v128.store32_lane(codes + codesRow, bytes, 1);
  v128.store32_lane(codes + 2 * codesRow, bytes, 2);
  v128.store32_lane(codes + 3 * codesRow, bytes, 3);
  ab = v128.shuffle<f32>(e0, e1, 0, 4, 1, 5);
  cd = v128.shuffle<f32>(e2, e3, 0, 4, 1, 5);
  v128.store(x, v128.shuffle<f32>(ab, cd, 0, 1, 4, 5));
  v128.store(x1, v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
  ab = v128.shuffle<f32>(e0, e1, 2, 6, 3, 7);
  cd = v128.shuffle<f32>(e2, e3, 2, 6, 3, 7);
  v128.store(x2, v128.shuffle<f32>(ab, cd, 0, 1, 4, 5));
  v128.store(x3, v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
}

/** 1.5 * 2^23, next to which the last bits of a whole number in f32 are that number. */
const WHOLE: f32 = 12582912;

/** The last eight bits of whole numbers. */
// @ts-ignore: decorator
@inline
function byteOf(q: v128): v128 {
  return v128.and(f32x4.add(q, f32x4.splat(WHOLE)), i32x4.splat(0xff));
}

/** The scales of a column in four rows. */
// @ts-ignore: decorator
@inline
function scalesOf(s0: usize, s1: usize, s2: usize, s3: usize, group: usize): v128 {
  let s = v128.load32_zero(s0 + group);
  s = v128.load32_lane(s1 + group, s, 1);
  s = v128.load32_lane(s2 + group, s, 2);
  return v128.load32_lane(s3 + group, s, 3);
}

/**
 * t_r[i] += e_r[3] * panel[3, i], then e_r[2], 1 and 0, for `bytes` / 4 values, a multiple of 4, of two rows r.
 * Strides in bytes.
 */
function addToTwo(
  t0: usize, tRow: usize, panel: usize, panelRow: usize, bytes: usize, e: usize, eRow: usize,
): void {
  const t1 = t0 + tRow, e0 = v128.load(e), e1 = v128.load(e + eRow);
  const panel1 = panel + panelRow, panel2 = panel1 + panelRow, panel3 = panel2 + panelRow;
  const e00 = v128.shuffle<f32>(e0, e0, 0, 0, 0, 0), e01 = v128.shuffle<f32>(e0, e0, 1, 1, 1, 1);
  const e02 = v128.shuffle<f32>(e0, e0, 2, 2, 2, 2), e03 = v128.shuffle<f32>(e0, e0, 3, 3, 3, 3);
  const e10 = v128.shuffle<f32>(e1, e1, 0, 0, 0, 0), e11 = v128.shuffle<f32>(e1, e1, 1, 1, 1, 1);
  const e12 = v128.shuffle<f32>(e1, e1, 2, 2, 2, 2), e13 = v128.shuffle<f32>(e1, e1, 3, 3, 3, 3);
  for (let i: usize = 0; i < bytes; i += 16) {
    let p = v128.load(panel3 + i), u = v128.load(t0 + i), v = v128.load(t1 + i);
    u = f32x4.add(u, f32x4.mul(e03, p));
    v = f32x4.add(v, f32x4.mul(e13, p));
    p = v128.load(panel2 + i);
    u = f32x4.add(u, f32x4.mul(e02, p));
    v = f32x4.add(v, f32x4.mul(e12, p));
    p = v128.load(panel1 + i);
    u = f32x4.add(u, f32x4.mul(e01, p));
    v = f32x4.add(v, f32x4.mul(e11, p));
    p = v128.load(panel + i);
    v128.store(t0 + i, f32x4.add(u, f32x4.mul(e00, p)));
    v128.store(t1 + i, f32x4.add(v, f32x4.mul(e10, p)));
  }
}

/** Columns width - 1 down to `first`. */
function roundOneRow(
  codes: usize, x: usize, feedback: usize, panel: usize, columnGroups: usize,
  first: usize, width: usize, panelRow: usize, scales: usize,
): void {
  for (let j = width; j > first;) {
    j--;
    const at = j << 2, scale = load<f32>(scales + (<usize>load<i32>(columnGroups + at) << 2));
    const w = load<f32>(x + at), q = roundedOne((w + load<f32>(feedback + at)) / scale);
    store<i8>(codes + j, <i8>q);
    const e = w - q * scale, v = f32x4.splat(e), row = panel + j * panelRow;
    store<f32>(x + at, e);
    for (let i: usize = 0; i < at; i += 16) {
      const t = f32x4.add(v128.load(feedback + i), f32x4.mul(v, v128.load(row + i)));
      v128.store(feedback + i, t);
    }
  }
}

/** The nearest integers, ties to even, within +-127; 0 for NaN. */
// @ts-ignore: decorator
@inline
function rounded(t: v128): v128 {
  const clamped = f32x4.pmin(f32x4.splat(127), f32x4.pmax(f32x4.splat(-127), t));
  return v128.and(f32x4.nearest(clamped), f32x4.eq(t, t));
}

/** The nearest integer, ties to even, within +-127; 0 for NaN. */
// @ts-ignore: decorator
@inline
function roundedOne(t: f32): f32 {
  return t == t ? nearest(min<f32>(127, max<f32>(-127, t))) : 0;
}
