// narrow: part of a matrix, times `gain`, in F16, two numbers to a word, the first in the low half.
//
// Layout: x f32 [rows, cols] from element xStart, xRow elements from row to row; out [rows, cols] from word
// outStart, outRow words from row to row, the last word of a row filled with 0. An invocation makes a word.
// Values are clamped to +-65504 and rounded as the device does; NaN may become anything. Class: close, one unit
// in the last place.

struct Params {
  rows: u32,
  cols: u32,
  xStart: u32,
  xRow: u32,
  outStart: u32,
  outRow: u32,
  gain: f32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;

const F16_MAX = 65504.0;

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
  let packed = pack2x16float(clamp(pair, vec2f(-F16_MAX), vec2f(F16_MAX)));
  out[params.outStart + row * params.outRow + word] = packed;
}
