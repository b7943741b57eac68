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
 * step waits for the one before, so two squares, of other rows, take turns: the processor does both at a time.
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
  for (; r + ROWS <= rows; r += ROWS) {
    const to = codes + r * codesRow, from = x + r * xBytes, fed = feedback + r * fedBytes;
    for (let i: usize = 0; whole < width && i < ROWS; i++) {
      roundOneRow(
        to + i * codesRow, from + i * xBytes, fed + i * fedBytes,
        panel, columnGroups, whole, width, panelBytes,
        scales + ((firstRow + r + i) / groupRows) * stride,
      );
    }
    // Offsets of the scales of the rows, a lane for each.
    const rowsA = offsetsOf(firstRow + r, groupRows, stride);
    const rowsB = offsetsOf(firstRow + r + 4, groupRows, stride);
    for (let j = whole; j > 0;) {
      j -= 4;
      const at = j << 2, corner = panel + j * panelBytes;
      roundSquares(
        to + j, from + at, fed + at, corner + at, columnGroups + at,
        codesRow, xBytes, fedBytes, panelBytes, scales, rowsA, rowsB,
      );
      for (let i: usize = 0; i < ROWS; i += 2) {
        addToTwo(fed + i * fedBytes, fedBytes, corner, panelBytes, at, from + i * xBytes + at, xBytes);
      }
    }
  }
  for (; r < rows; r++) {
    roundOneRow(
      codes + r * codesRow, x + r * xBytes, feedback + r * fedBytes,
      panel, columnGroups, 0, width, panelBytes, scales + ((firstRow + r) / groupRows) * stride,
    );
  }
}

/** Rows that go side by side: two squares. */
const ROWS: usize = 8;

/** (row / groupRows) * stride for four rows. */
// @ts-ignore: decorator
@inline
function offsetsOf(row: usize, groupRows: usize, stride: usize): v128 {
  let offsets = i32x4.splat(<i32>((row / groupRows) * stride));
  offsets = i32x4.replace_lane(offsets, 1, <i32>(((row + 1) / groupRows) * stride));
  offsets = i32x4.replace_lane(offsets, 2, <i32>(((row + 2) / groupRows) * stride));
  return i32x4.replace_lane(offsets, 3, <i32>(((row + 3) / groupRows) * stride));
}

/**
 * Four columns of twice four rows, from the last; all addresses are those of their corner, `panel` that of the square
 * on its diagonal, strides in bytes; `rowsA` and `rowsB` from offsetsOf.
 */
function roundSquares(
  codes: usize, x: usize, feedback: usize, panel: usize, columnGroups: usize,
  codesRow: usize, xRow: usize, feedbackRow: usize, panelRow: usize,
  scales: usize, rowsA: v128, rowsB: v128,
): void {
  const xA = x, xB = x + 4 * xRow, tA = feedback, tB = feedback + 4 * feedbackRow;
  // Errors to feed back, and the weights: a vector for each column, a lane for each row.
  let a = v128.splat<i32>(0), b = a, c = a, d = a, ab = a, cd = a, p = a, group: usize = 0;
  a = v128.load(tA);
  b = v128.load(tA + feedbackRow);
  c = v128.load(tA + 2 * feedbackRow);
  d = v128.load(tA + 3 * feedbackRow);
  ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
  cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
  let f0A = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), f1A = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);
  ab = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
  cd = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  let f2A = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5);
  const f3A = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);
  a = v128.load(tB);
  b = v128.load(tB + feedbackRow);
  c = v128.load(tB + 2 * feedbackRow);
  d = v128.load(tB + 3 * feedbackRow);
  ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
  cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
  let f0B = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), f1B = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);
  ab = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
  cd = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  let f2B = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5);
  const f3B = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);
  a = v128.load(xA);
  b = v128.load(xA + xRow);
  c = v128.load(xA + 2 * xRow);
  d = v128.load(xA + 3 * xRow);
  ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
  cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
  let e0A = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), e1A = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);
  ab = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
  cd = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  let e2A = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), e3A = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);
  a = v128.load(xB);
  b = v128.load(xB + xRow);
  c = v128.load(xB + 2 * xRow);
  d = v128.load(xB + 3 * xRow);
  ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
  cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
  let e0B = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), e1B = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);
  ab = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
  cd = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  let e2B = v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), e3B = v128.shuffle<f32>(ab, cd, 2, 3, 6, 7);

  group = <usize>load<i32>(columnGroups, 12) << 2;
  let sA = scalesOf(scales, rowsA, group);
  let sB = scalesOf(scales, rowsB, group);
  const q3A = rounded(f32x4.div(f32x4.add(e3A, f3A), sA));
  const q3B = rounded(f32x4.div(f32x4.add(e3B, f3B), sB));
  e3A = f32x4.sub(e3A, f32x4.mul(q3A, sA));
  e3B = f32x4.sub(e3B, f32x4.mul(q3B, sB));
  p = v128.load(panel + 3 * panelRow);
  f2A = f32x4.add(f2A, f32x4.mul(e3A, v128.shuffle<f32>(p, p, 2, 2, 2, 2)));
  f2B = f32x4.add(f2B, f32x4.mul(e3B, v128.shuffle<f32>(p, p, 2, 2, 2, 2)));
  f1A = f32x4.add(f1A, f32x4.mul(e3A, v128.shuffle<f32>(p, p, 1, 1, 1, 1)));
  f1B = f32x4.add(f1B, f32x4.mul(e3B, v128.shuffle<f32>(p, p, 1, 1, 1, 1)));
  f0A = f32x4.add(f0A, f32x4.mul(e3A, v128.shuffle<f32>(p, p, 0, 0, 0, 0)));
  f0B = f32x4.add(f0B, f32x4.mul(e3B, v128.shuffle<f32>(p, p, 0, 0, 0, 0)));
  group = <usize>load<i32>(columnGroups, 8) << 2;
  sA = scalesOf(scales, rowsA, group);
  sB = scalesOf(scales, rowsB, group);
  const q2A = rounded(f32x4.div(f32x4.add(e2A, f2A), sA));
  const q2B = rounded(f32x4.div(f32x4.add(e2B, f2B), sB));
  e2A = f32x4.sub(e2A, f32x4.mul(q2A, sA));
  e2B = f32x4.sub(e2B, f32x4.mul(q2B, sB));
  p = v128.load(panel + 2 * panelRow);
  f1A = f32x4.add(f1A, f32x4.mul(e2A, v128.shuffle<f32>(p, p, 1, 1, 1, 1)));
  f1B = f32x4.add(f1B, f32x4.mul(e2B, v128.shuffle<f32>(p, p, 1, 1, 1, 1)));
  f0A = f32x4.add(f0A, f32x4.mul(e2A, v128.shuffle<f32>(p, p, 0, 0, 0, 0)));
  f0B = f32x4.add(f0B, f32x4.mul(e2B, v128.shuffle<f32>(p, p, 0, 0, 0, 0)));
  group = <usize>load<i32>(columnGroups, 4) << 2;
  sA = scalesOf(scales, rowsA, group);
  sB = scalesOf(scales, rowsB, group);
  const q1A = rounded(f32x4.div(f32x4.add(e1A, f1A), sA));
  const q1B = rounded(f32x4.div(f32x4.add(e1B, f1B), sB));
  e1A = f32x4.sub(e1A, f32x4.mul(q1A, sA));
  e1B = f32x4.sub(e1B, f32x4.mul(q1B, sB));
  p = v128.load(panel + panelRow);
  f0A = f32x4.add(f0A, f32x4.mul(e1A, v128.shuffle<f32>(p, p, 0, 0, 0, 0)));
  f0B = f32x4.add(f0B, f32x4.mul(e1B, v128.shuffle<f32>(p, p, 0, 0, 0, 0)));
  group = <usize>load<i32>(columnGroups) << 2;
  sA = scalesOf(scales, rowsA, group);
  sB = scalesOf(scales, rowsB, group);
  const q0A = rounded(f32x4.div(f32x4.add(e0A, f0A), sA));
  const q0B = rounded(f32x4.div(f32x4.add(e0B, f0B), sB));
  e0A = f32x4.sub(e0A, f32x4.mul(q0A, sA));
  e0B = f32x4.sub(e0B, f32x4.mul(q0B, sB));

  storeCodes(codes, codesRow, q0A, q1A, q2A, q3A);
  storeErrors(xA, xRow, e0A, e1A, e2A, e3A);
  storeCodes(codes + 4 * codesRow, codesRow, q0B, q1B, q2B, q3B);
  storeErrors(xB, xRow, e0B, e1B, e2B, e3B);
}

// @ts-ignore: decorator
@inline
function storeCodes(codes: usize, codesRow: usize, q0: v128, q1: v128, q2: v128, q3: v128): void {
  // A lane has the four codes of its row.
  const bytes = v128.or(
    v128.or(byteOf(q0), i32x4.shl(byteOf(q1), 8)),
    v128.or(i32x4.shl(byteOf(q2), 16), i32x4.shl(byteOf(q3), 24)),
  );
  v128.store32_lane(codes, bytes, 0);
  v128.store32_lane(codes + codesRow, bytes, 1);
  v128.store32_lane(codes + 2 * codesRow, bytes, 2);
  v128.store32_lane(codes + 3 * codesRow, bytes, 3);
}

// @ts-ignore: decorator
@inline
function storeErrors(x: usize, xRow: usize, e0: v128, e1: v128, e2: v128, e3: v128): void {
  let low = v128.shuffle<f32>(e0, e1, 0, 4, 1, 5), high = v128.shuffle<f32>(e2, e3, 0, 4, 1, 5);
  v128.store(x, v128.shuffle<f32>(low, high, 0, 1, 4, 5));
  v128.store(x + xRow, v128.shuffle<f32>(low, high, 2, 3, 6, 7));
  low = v128.shuffle<f32>(e0, e1, 2, 6, 3, 7);
  high = v128.shuffle<f32>(e2, e3, 2, 6, 3, 7);
  v128.store(x + 2 * xRow, v128.shuffle<f32>(low, high, 0, 1, 4, 5));
  v128.store(x + 3 * xRow, v128.shuffle<f32>(low, high, 2, 3, 6, 7));
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
function scalesOf(scales: usize, rows: v128, group: usize): v128 {
  const from = scales + group;
  let s = v128.load32_zero(from + <usize>i32x4.extract_lane(rows, 0));
  s = v128.load32_lane(from + <usize>i32x4.extract_lane(rows, 1), s, 1);
  s = v128.load32_lane(from + <usize>i32x4.extract_lane(rows, 2), s, 2);
  return v128.load32_lane(from + <usize>i32x4.extract_lane(rows, 3), s, 3);
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
