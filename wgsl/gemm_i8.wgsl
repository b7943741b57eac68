// gemmI8: out[i, j] = sum over k of a[i, k] * b[j, k] in i32.
//
// Layout: a i8, m rows of k values, the first at byte aStart, rows aRow bytes apart; b likewise, n rows: no
// alignment is needed, so that columns of a wider matrix are multiplied where they lie. out i32 [m, n].
// A workgroup a tile of 64 x 64, an invocation 4 x 4 of it; 64 values of k at a time lie in the memory of
// the workgroup, four in a word and words of four rows side by side.
// Tail: what is beyond k, m or n counts as zero. At most GEMM_I8_TERMS_MAX terms: no sum overflows.
// Class: exact. Integers: in any order.

struct Params {
  m: u32,
  n: u32,
  k: u32,
  aStart: u32,
  aRow: u32,
  bStart: u32,
  bRow: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> result: array<i32>;
@group(0) @binding(2) var<storage, read> a: array<u32>;
@group(0) @binding(3) var<storage, read> b: array<u32>;

const TILE = 64u; // rows and columns of a tile
const WORDS = 16u; // words of a row that are in memory at a time
const STRIDE = 17u; // TILE / 4, and one so that neighbours write to different banks

var<workgroup> left: array<vec4u, 272>; // [WORDS, STRIDE]
var<workgroup> right: array<vec4u, 272>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let across = (params.n + TILE - 1u) / TILE;
  let tile = workgroupIndex(workgroup, workgroups);
  let row = (tile / across) * TILE;
  let col = (tile % across) * TILE;
  if (row >= params.m) {
    return;
  }
  let x = local % 16u;
  let y = local / 16u;
  // Neighbours load neighbouring words of one row.
  let word = local % WORDS;
  let quad = local / WORDS;
  var sums: array<vec4i, 4>;
  for (var first = 0u; first < params.k; first += 4u * WORDS) {
    let at = first + 4u * word;
    let i = row + 4u * quad;
    let j = col + 4u * quad;
    let l = vec4u(wordOfA(i, at), wordOfA(i + 1u, at), wordOfA(i + 2u, at), wordOfA(i + 3u, at));
    let r = vec4u(wordOfB(j, at), wordOfB(j + 1u, at), wordOfB(j + 2u, at), wordOfB(j + 3u, at));
    workgroupBarrier();
    left[word * STRIDE + quad] = l;
    right[word * STRIDE + quad] = r;
    workgroupBarrier();
    for (var w = 0u; w < WORDS; w++) {
      let p = left[w * STRIDE + y];
      let q = right[w * STRIDE + x];
      sums[0] += vec4i(dot4(p.x, q.x), dot4(p.x, q.y), dot4(p.x, q.z), dot4(p.x, q.w));
      sums[1] += vec4i(dot4(p.y, q.x), dot4(p.y, q.y), dot4(p.y, q.z), dot4(p.y, q.w));
      sums[2] += vec4i(dot4(p.z, q.x), dot4(p.z, q.y), dot4(p.z, q.z), dot4(p.z, q.w));
      sums[3] += vec4i(dot4(p.w, q.x), dot4(p.w, q.y), dot4(p.w, q.z), dot4(p.w, q.w));
    }
  }
  for (var i = 0u; i < 4u; i++) {
    for (var j = 0u; j < 4u; j++) {
      let r = row + 4u * y + i;
      let c = col + 4u * x + j;
      if (r < params.m && c < params.n) {
        result[r * params.n + c] = sums[i][j];
      }
    }
  }
}

// Four values of a row of `a` from column k on.
fn wordOfA(row: u32, k: u32) -> u32 {
  if (row >= params.m || k >= params.k) {
    return 0u;
  }
  let at = params.aStart + row * params.aRow + k;
  let low = a[at / 4u];
  let shift = 8u * (at % 4u);
  let have = params.k - k;
  // The word behind is read only if it holds one of the values.
  if (at % 4u + min(have, 4u) <= 4u) {
    return firstOf(low >> shift, have);
  }
  return firstOf((low >> shift) | (a[at / 4u + 1u] << (32u - shift)), have);
}

// Four values of a row of `b` from column k on.
fn wordOfB(row: u32, k: u32) -> u32 {
  if (row >= params.n || k >= params.k) {
    return 0u;
  }
  let at = params.bStart + row * params.bRow + k;
  let low = b[at / 4u];
  let shift = 8u * (at % 4u);
  let have = params.k - k;
  if (at % 4u + min(have, 4u) <= 4u) {
    return firstOf(low >> shift, have);
  }
  return firstOf((low >> shift) | (b[at / 4u + 1u] << (32u - shift)), have);
}

// The first `count` bytes of a word, zeros behind them.
fn firstOf(word: u32, count: u32) -> u32 {
  return select(word & ((1u << (8u * (count % 4u))) - 1u), word, count >= 4u);
}
