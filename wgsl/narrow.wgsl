// narrow: part of a matrix, times `gain`, in numbers of 2 bytes, two to a word, the first in the low half.
//
// Layout: x f32 [rows, cols] from element xStart, xRow elements from row to row; out [rows, cols] from word
// outStart, outRow words from row to row, the last word of a row filled with 0. An invocation makes a word.
// bf16 (storage 1) rounds to nearest, ties to even; f16 (storage 2) clamps to +-65504 and rounds as the
// device does. NaN stays one in bf16, is anything in f16. Class: exact for bf16, close for f16 (one unit in
// the last place).

struct Params {
  rows: u32,
  cols: u32,
  xStart: u32,
  xRow: u32,
  outStart: u32,
  outRow: u32,
  storage: u32,
  gain: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;

const F16_MAX = 65504.0;

fn bf16Of(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  if (isNan(bits)) {
    return (bits >> 16u) | 0x40u;
  }
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let words = (params.cols + 1u) / 2u;
  let index = workgroupIndex(workgroup, workgroups) * 256u + local;
  let row = index / words;
  let word = index % words;
  if (row >= params.rows) {
    return;
  }
  let at = params.xStart + row * params.xRow + 2u * word;
  var pair = vec2f(x[at], 0.0);
  if (2u * word + 1u < params.cols) {
    pair.y = x[at + 1u];
  }
  pair *= params.gain;
  var packed = 0u;
  if (params.storage == STORAGE_BF16) {
    packed = bf16Of(pair.x) | (bf16Of(pair.y) << 16u);
  } else {
    packed = pack2x16float(clamp(pair, vec2f(-F16_MAX), vec2f(F16_MAX)));
  }
  out[params.outStart + row * params.outRow + word] = packed;
}
