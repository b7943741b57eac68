/** Reordering the columns of a layer, for rounding them in the order of their importance. */

/**
 * Returns the columns in the order of their `importance`, least first, ties by index: LDLQ rounds the last
 * column first, when nothing has been fed back into it yet.
 */
export function actOrder(importance: Float64Array): Int32Array {
  const order = Int32Array.from(importance, (_, j) => j);
  return order.sort((a, b) => importance[a]! - importance[b]! || a - b);
}

/** The same with every `unit` neighbouring columns, which divides them, staying side by side, in order within. */
export function actOrderOfUnits(importance: Float64Array, unit: number): Int32Array {
  if (unit === 1) return actOrder(importance);
  const sums = new Float64Array(importance.length / unit);
  importance.forEach((value, j) => sums[Math.floor(j / unit)]! += value);
  const order = new Int32Array(importance.length);
  actOrder(sums).forEach((first, place) => {
    const own = importance.subarray(first * unit, (first + 1) * unit);
    actOrder(own).forEach((j, i) => order[place * unit + i] = first * unit + j);
  });
  return order;
}
