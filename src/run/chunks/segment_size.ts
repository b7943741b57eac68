/** Segments of a wide layer whose errors are compensated: known before the work, without its code. */

import type { Segments } from "../../plan/options.ts";

/**
 * Returns the columns of a segment: all of them, or for a large layer the largest part, no larger than
 * asked for, that divides them and is made of whole rotation groups.
 */
export function segmentSize(
  cols: number,
  group: number | null,
  segments: Segments | null,
): number {
  if (segments === null || cols < segments.threshold) return cols;
  const unit = group ?? 1, most = cols / unit;
  const isWhole = (count: number) => cols % count === 0 && (cols / count) % unit === 0;
  for (let count = segments.count; count <= most; count++) {
    if (isWhole(count)) return cols / count;
  }
  // More than there can be: as many as there can be.
  for (let count = Math.min(segments.count, Math.floor(most)); count > 1; count--) {
    if (isWhole(count)) return cols / count;
  }
  return cols;
}
