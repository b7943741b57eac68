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
 */
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
      panel, columnGroups, width, panelRow << 2, scales + ((row / groupRows) * scaleCols << 2),
      choices + row * across, columnSets, tables,
    );
  }
}

function roundRow(
  codes: usize, x: usize, feedback: usize,
  panel: usize, columnGroups: usize, width: usize, panelRow: usize, scales: usize,
  choices: usize, columnSets: usize, tables: usize,
): void {
  for (let j = width; j > 0;) {
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

/** Place of the level nearest to t in the table of its set. */
// @ts-ignore: decorator
@inline
function place(t: f32): usize {
  const inside = min<f32>(8191, max<f32>(-8191, t * 32));
  const units = t == t ? <i32>nearest<f32>(inside) : 0;
  return <usize>(min<i32>(256, max<i32>(-255, (units + 15) >> 4)) + 255);
}
