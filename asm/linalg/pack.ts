/**
 * Packing: four neighbouring rows or columns of a matrix become a strip that a multiplication reads from
 * front to back. Entry (k, x) of the strip is source[x * across + k * along], at out + k * stepBytes +
 * x * sizeof<T>(); lanes x >= count are 0.
 */

/**
 * Packs `count` (0..4) lanes over `depth` terms. Strides `across` and `along` in elements of S.
 * Reads nothing beyond the lanes and terms it packs.
 */
export function packStrip<S, T>(
  out: usize, source: usize, count: usize, depth: usize,
  across: usize, along: usize, stepBytes: usize,
): void {
  if (count < 4) {
    packFew<S, T>(out, source, count, depth, across, along, stepBytes);
  } else if (across == 1) {
    packSideBySide<S, T>(out, source, depth, along * sizeof<S>(), stepBytes);
  } else {
    const whole = along == 1 ? packTransposed<S, T>(out, source, depth, across, stepBytes) : 0;
    packFour<S, T>(
      out + whole * stepBytes, source + whole * along * sizeof<S>(),
      depth - whole, across * sizeof<S>(), along * sizeof<S>(), stepBytes,
    );
  }
}

function packFew<S, T>(
  out: usize, source: usize, count: usize, depth: usize,
  across: usize, along: usize, stepBytes: usize,
): void {
  for (let k: usize = 0; k < depth; k++) {
    for (let x: usize = 0; x < 4; x++) {
      const at = source + (x * across + k * along) * sizeof<S>();
      store<T>(out + x * sizeof<T>(), x < count ? <T>load<S>(at) : <T>0);
    }
    out += stepBytes;
  }
}

/** Any strides, in bytes. */
function packFour<S, T>(
  out: usize, source: usize, depth: usize, across: usize, along: usize, stepBytes: usize,
): void {
  const p1 = across, p2 = across * 2, p3 = across * 3;
  for (let k: usize = 0; k < depth; k++) {
    store<T>(out, <T>load<S>(source));
    store<T>(out, <T>load<S>(source + p1), sizeof<T>());
    store<T>(out, <T>load<S>(source + p2), 2 * sizeof<T>());
    store<T>(out, <T>load<S>(source + p3), 3 * sizeof<T>());
    source += along;
    out += stepBytes;
  }
}

/** The four lanes are neighbours in memory. */
function packSideBySide<S, T>(
  out: usize, source: usize, depth: usize, along: usize, stepBytes: usize,
): void {
  for (let k: usize = 0; k < depth; k++) {
    if (sizeof<S>() == sizeof<T>()) {
      v128.store(out, v128.load(source));
      if (sizeof<T>() == 8) v128.store(out, v128.load(source, 16), 16);
    } else if (sizeof<S>() == 8) {
      v128.store(out, narrow(v128.load(source), v128.load(source, 16)));
    } else {
      v128.store(out, f64x2.promote_low_f32x4(v128.load64_zero(source)));
      v128.store(out, f64x2.promote_low_f32x4(v128.load64_zero(source, 8)), 16);
    }
    source += along;
    out += stepBytes;
  }
}

/** The terms of each lane are neighbours in memory: transposes squares. Returns how many terms it packed. */
function packTransposed<S, T>(
  out: usize, source: usize, depth: usize, across: usize, stepBytes: usize,
): usize {
  const s1 = source + across * sizeof<S>(), s2 = s1 + across * sizeof<S>();
  const s3 = s2 + across * sizeof<S>();
  if (sizeof<S>() == 4) {
    const whole = depth & ~3;
    for (let k: usize = 0; k < whole; k += 4) {
      const a = v128.load(source + (k << 2)), b = v128.load(s1 + (k << 2));
      const c = v128.load(s2 + (k << 2)), d = v128.load(s3 + (k << 2));
      const ab01 = v128.shuffle<f32>(a, b, 0, 4, 1, 5), ab23 = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
      const cd01 = v128.shuffle<f32>(c, d, 0, 4, 1, 5), cd23 = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
      storeLanes<T>(out, v128.shuffle<f32>(ab01, cd01, 0, 1, 4, 5));
      storeLanes<T>(out + stepBytes, v128.shuffle<f32>(ab01, cd01, 2, 3, 6, 7));
      storeLanes<T>(out + 2 * stepBytes, v128.shuffle<f32>(ab23, cd23, 0, 1, 4, 5));
      storeLanes<T>(out + 3 * stepBytes, v128.shuffle<f32>(ab23, cd23, 2, 3, 6, 7));
      out += 4 * stepBytes;
    }
    return whole;
  }
  const whole = depth & ~1;
  for (let k: usize = 0; k < whole; k += 2) {
    const a = v128.load(source + (k << 3)), b = v128.load(s1 + (k << 3));
    const c = v128.load(s2 + (k << 3)), d = v128.load(s3 + (k << 3));
    const low = v128.shuffle<f64>(a, b, 0, 2), low2 = v128.shuffle<f64>(c, d, 0, 2);
    const high = v128.shuffle<f64>(a, b, 1, 3), high2 = v128.shuffle<f64>(c, d, 1, 3);
    if (sizeof<T>() == 4) {
      v128.store(out, narrow(low, low2));
      v128.store(out + stepBytes, narrow(high, high2));
    } else {
      v128.store(out, low);
      v128.store(out, low2, 16);
      v128.store(out + stepBytes, high);
      v128.store(out + stepBytes, high2, 16);
    }
    out += 2 * stepBytes;
  }
  return whole;
}

/** Four f64, rounded to f32. */
// @ts-ignore: decorator
@inline
function narrow(a: v128, b: v128): v128 {
  return v128.shuffle<f64>(f32x4.demote_f64x2_zero(a), f32x4.demote_f64x2_zero(b), 0, 2);
}

/** Four f32 as four T. */
// @ts-ignore: decorator
@inline
function storeLanes<T>(out: usize, lanes: v128): void {
  if (sizeof<T>() == 4) {
    v128.store(out, lanes);
  } else {
    v128.store(out, f64x2.promote_low_f32x4(lanes));
    v128.store(out, f64x2.promote_low_f32x4(v128.shuffle<f64>(lanes, lanes, 1, 0)), 16);
  }
}
