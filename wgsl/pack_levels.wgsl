// packLevels: levels as the codes of a file, 4 or 6 bits each. Formula and layout are those of
// asm/pack_levels.ts.
//
// Layout: levels i8 [rows, cols], choices u8 [rows, cols / setCols], codes u8 [sets, 256] and packed u8
// [rows, cols * bits / 8], all four in a word; setCols is a multiple of 16, so that neither a row nor its low
// nibbles end within a word. One invocation a word.
// Class: exact.

struct Params {
  words: u32,
  cols: u32,
  setCols: u32,
  bits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> packed: array<u32>;
@group(0) @binding(2) var<storage, read> levels: array<u32>;
@group(0) @binding(3) var<storage, read> choices: array<u32>;
@group(0) @binding(4) var<storage, read> codes: array<u32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let word = workgroupIndex(workgroup, workgroups) * 256u + local;
  if (word >= params.words) {
    return;
  }
  let lowWords = params.cols / 8u;
  let rowWords = params.cols * params.bits / 32u;
  let row = word / rowWords;
  let at = word % rowWords;
  var out = 0u;
  if (at < lowWords) {
    for (var k = 0u; k < 8u; k++) {
      out |= (codeAt(row * params.cols + at * 8u + k) & 15u) << (4u * k);
    }
  } else {
    for (var k = 0u; k < 16u; k++) {
      let code = codeAt(row * params.cols + (at - lowWords) * 16u + k);
      out |= ((code >> 4u) & 3u) << (2u * k);
    }
  }
  packed[word] = out;
}

// The code of element `i`.
fn codeAt(i: u32) -> u32 {
  let group = i / params.setCols;
  let chosen = (choices[group >> 2u] >> ((group & 3u) * 8u)) & 0xffu;
  let level = extractBits(i32(levels[i >> 2u]), (i & 3u) * 8u, 8u);
  let place = chosen * 256u + u32(level + 128);
  return (codes[place >> 2u] >> ((place & 3u) * 8u)) & 0xffu;
}
