/**
 * ldlqLevels: `ldlqBlock` for grids of few levels. For each row r, for j = width - 1 down to 0, with s the scale
 * of the element and T the table of the set of levels that its group has:
 *
 *     u = clamp(roundHalfEven(((x[r,j] + feedback[r,j]) / s) * 32), -8191, 8191)          NaN: 0
 *     q = T[clamp((u + 15) >> 4, -255, 256) + 255]
 *     e = x[r,j] - q * s
 *     feedback[r,i] += e * panel[j,i]    for i < j
 *
 * codes[r,j] = q, and e replaces x[r,j]. Tables are those of `asm/quantize_levels.ts`, so that without feedback
 * this rounds as `quantizeLevels` does. All arithmetic is f32, in this order, with a true division.
 *
 * Layout as in `ldlqBlock`; the set of the element is choices[(firstRow + r) * across + columnSets[j]], choices
 * u8, columnSets i32 [width], tables i8 [sets, 512].
 *
 * NaN: as 0; its row keeps spreading the NaN. Rows are independent, so any split over rows gives the same.
 * Class: exact.
 *
 * `ldlqChosenLevels` chooses the set of a group when its columns are reached: it rounds them with each of eight
 * sets, which feed back into the rest of the group each in its own way, and takes the one with the least sum of
 * (u - 32 * q)^2, modulo 2^32, of several the first. The first set is three above first[max |u| >> 5], the others
 * are those before it, none below 0 nor beyond the last. Columns of a group stand side by side under one scale, and the
 * width is a multiple of theirs. spare: 8 f32 for each column of a group.
 */

import { leastOf4, ROUNDER, ROUNDER_BITS } from "../lib/levels";
import { keepF32, keepI32 } from "../lib/constants";

/** How far above the set that reaches the largest value of a group the first of those that are tried is. */
const ABOVE = 3;

export function ldlqLevels(
  codes: usize, x: usize, feedback: usize,
  panel: usize, scales: usize, columnGroups: usize,
  rows: usize, width: usize,
  codesRow: usize, xRow: usize, feedbackRow: usize, panelRow: usize,
  firstRow: usize, groupRows: usize, scaleCols: usize,
  choices: usize, across: usize, columnSets: usize, tables: usize,
): void {
  for (let r: usize = 0; r < rows; r++) {
    const row = firstRow + r;
    roundRow(
      codes + r * codesRow, x + (r * xRow << 2), feedback + (r * feedbackRow << 2),
      panel, columnGroups, 0, width, panelRow << 2, scales + ((row / groupRows) * scaleCols << 2),
      choices + row * across, columnSets, tables,
    );
  }
}

export function ldlqChosenLevels(
  codes: usize, x: usize, feedback: usize,
  panel: usize, scales: usize, columnGroups: usize,
  rows: usize, width: usize,
  codesRow: usize, xRow: usize, feedbackRow: usize, panelRow: usize,
  firstRow: usize, groupRows: usize, scaleCols: usize,
  choices: usize, across: usize, columnSets: usize, tables: usize,
  first: usize, lastSet: i32, setCols: usize, spare: usize,
): void {
  const panelBytes = panelRow << 2;
  for (let r: usize = 0; r < rows; r++) {
    const row = firstRow + r, own = choices + row * across;
    const w = x + (r * xRow << 2), fed = feedback + (r * feedbackRow << 2);
    const scaleRow = scales + ((row / groupRows) * scaleCols << 2);
    for (let end = width; end > 0; end -= setCols) {
      const from = end - setCols, at = from << 2;
      const scale = load<f32>(scaleRow + (<usize>load<i32>(columnGroups + at) << 2));
      const set = choose(
        w + at, fed + at, scale, panel + from * panelBytes + at, panelBytes, setCols,
        tables, first, lastSet, spare,
      );
      store<u8>(own + <usize>load<i32>(columnSets + at), <u8>set);
      roundRow(
        codes + r * codesRow, w, fed, panel, columnGroups, from, end, panelBytes, scaleRow,
        own, columnSets, tables,
      );
    }
  }
}

/** Rounds columns `from` to `end` of a row, the last one first. */
function roundRow(
  codes: usize, x: usize, feedback: usize,
  panel: usize, columnGroups: usize, from: usize, end: usize, panelRow: usize, scales: usize,
  choices: usize, columnSets: usize, tables: usize,
): void {
  for (let j = end; j > from;) {
    j--;
    const at = j << 2, scale = load<f32>(scales + (<usize>load<i32>(columnGroups + at) << 2));
    const set = <usize>load<u8>(choices + <usize>load<i32>(columnSets + at));
    const w = load<f32>(x + at), q = load<i8>(tables + (set << 9) + place((w + load<f32>(feedback + at)) / scale));
    store<i8>(codes + j, q);
    const e = w - <f32>q * scale, v = f32x4.splat(e), row = panel + j * panelRow;
    store<f32>(x + at, e);
    for (let i: usize = 0; i < at; i += 16) {
      const t = f32x4.add(v128.load(feedback + i), f32x4.mul(v, v128.load(row + i)));
      v128.store(feedback + i, t);
    }
  }
}

/**
 * The set that suits a group of columns, whose own part of the factor is at `panel`. Sets are lanes of two vectors; what
 * each of them has fed back into a column lies side by side in `spare`.
 */
function choose(
  x: usize, fed: usize, scale: f32, panel: usize, panelRow: usize, setCols: usize,
  tables: usize, first: usize, lastSet: i32, spare: usize,
): i32 {
  const s = f32x4.splat(scale), c32 = keepF32(32), most = keepF32(8191), least = keepF32(-8191);
  const rounder = keepF32(ROUNDER), bits = keepI32(ROUNDER_BITS);
  const start = min<i32>(lastSet, <i32>load<u8>(first + (largest(x, fed, s, setCols) >> 5)) + ABOVE);
  const a0 = tableOf(tables, start), a1 = tableOf(tables, start - 1);
  const a2 = tableOf(tables, start - 2), a3 = tableOf(tables, start - 3);
  const a4 = tableOf(tables, start - 4), a5 = tableOf(tables, start - 5);
  const a6 = tableOf(tables, start - 6), a7 = tableOf(tables, start - 7);
  for (let c: usize = 0; c < setCols; c++) {
    const f = v128.load32_splat(fed + (c << 2)), to = spare + (c << 5);
    v128.store(to, f);
    v128.store(to, f, 16);
  }
  let low = i32x4.splat(0), high = i32x4.splat(0);
  for (let c = setCols; c > 0;) {
    c--;
    const w = v128.load32_splat(x + (c << 2)), own = spare + (c << 5);
    const u = unitsOf4(f32x4.add(w, v128.load(own)), s, c32, least, most, rounder, bits);
    const v = unitsOf4(f32x4.add(w, v128.load(own, 16)), s, c32, least, most, rounder, bits);
    const q = levelsOf4(placesOf4(u), a0, a1, a2, a3), p = levelsOf4(placesOf4(v), a4, a5, a6, a7);
    const d = i32x4.sub(u, i32x4.shl(q, 5)), e = i32x4.sub(v, i32x4.shl(p, 5));
    low = i32x4.add(low, i32x4.mul(d, d));
    high = i32x4.add(high, i32x4.mul(e, e));
    const lost = f32x4.sub(w, f32x4.mul(f32x4.convert_i32x4_s(q), s));
    const more = f32x4.sub(w, f32x4.mul(f32x4.convert_i32x4_s(p), s));
    const row = panel + c * panelRow;
    for (let i: usize = 0; i < c; i++) {
      const l = v128.load32_splat(row + (i << 2)), to = spare + (i << 5);
      v128.store(to, f32x4.add(v128.load(to), f32x4.mul(lost, l)));
      v128.store(to, f32x4.add(v128.load(to, 16), f32x4.mul(more, l)), 16);
    }
  }
  const k = leastOf4(low), m = leastOf4(high);
  v128.store(spare, low);
  v128.store(spare, high, 16);
  const best = load<u32>(spare + (<usize>k << 2)) <= load<u32>(spare + 16 + (<usize>m << 2)) ? k : m + 4;
  return max<i32>(0, start - best);
}

/** The table of a set, from the entry for 0 on. */
// @ts-ignore: decorator
@inline
function tableOf(tables: usize, set: i32): usize {
  return tables + (<usize>max<i32>(0, set) << 9) + 255;
}

/** The largest magnitude of a group in units. */
// @ts-ignore: decorator
@inline
function largest(x: usize, fed: usize, scale: v128, setCols: usize): usize {
  let m = f32x4.splat(0);
  for (let c: usize = 0; c < setCols; c += 4) {
    const t = f32x4.div(f32x4.add(v128.load(x + (c << 2)), v128.load(fed + (c << 2))), scale);
    m = f32x4.pmax(m, f32x4.abs(t));
  }
  m = f32x4.pmax(m, i32x4.shuffle(m, m, 2, 3, 0, 1));
  m = f32x4.pmax(m, i32x4.shuffle(m, m, 1, 0, 3, 2));
  return <usize>nearest<f32>(min<f32>(8191, f32x4.extract_lane(m, 0) * 32));
}

/** Units of 4 values. NaN: 0. */
// @ts-ignore: decorator
@inline
function unitsOf4(
  x: v128, scale: v128, c32: v128, least: v128, most: v128, rounder: v128, bits: v128,
): v128 {
  const t = f32x4.mul(f32x4.div(x, scale), c32);
  const number = v128.and(t, f32x4.eq(t, t));
  const inside = f32x4.pmin(most, f32x4.pmax(least, number));
  return i32x4.sub(f32x4.add(inside, rounder), bits);
}

/** Places of 4 values in units in the table of a set, from that of 0 on. */
// @ts-ignore: decorator
@inline
function placesOf4(units: v128): v128 {
  const halves = i32x4.shr_s(i32x4.add(units, i32x4.splat(15)), 4);
  return i32x4.min_s(i32x4.splat(256), i32x4.max_s(i32x4.splat(-255), halves));
}

/** A level of each of four sets. */
// @ts-ignore: decorator
@inline
function levelsOf4(places: v128, a: usize, b: usize, c: usize, d: usize): v128 {
  let l = i8x16.splat(0);
  l = v128.load8_lane(a + i32x4.extract_lane(places, 0), l, 3);
  l = v128.load8_lane(b + i32x4.extract_lane(places, 1), l, 7);
  l = v128.load8_lane(c + i32x4.extract_lane(places, 2), l, 11);
  l = v128.load8_lane(d + i32x4.extract_lane(places, 3), l, 15);
  return i32x4.shr_s(l, 24);
}


/** Place of the level nearest to t in the table of its set. */
// @ts-ignore: decorator
@inline
function place(t: f32): usize {
  const inside = min<f32>(8191, max<f32>(-8191, t * 32));
  const units = t == t ? <i32>nearest<f32>(inside) : 0;
  return <usize>(min<i32>(256, max<i32>(-255, (units + 15) >> 4)) + 255);
}
