// searchCodeLevels: of some sets of at most 16 levels the one that is nearest to the int8 codes of a group. Tables,
// candidates and errors are those of asm/search_code_levels.ts: integers, whose sum is the same in any order.
//
// Layout: codes i8 [groups, setCols], choices u8 [groups], steps i8 [sets, 32], first u8 [128], all four in a
// word; the last word of choices is filled with 0. One invocation a word: four groups, one after the other.
// Class: exact.

struct Params {
  groups: u32,
  setCols: u32,
  candidates: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> choices: array<u32>;
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> steps: array<u32>;
@group(0) @binding(4) var<storage, read> first: array<u32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let word = workgroupIndex(workgroup, workgroups) * 64u + local;
  if (word * 4u >= params.groups) {
    return;
  }
  var packed = 0u;
  for (var k = 0u; k < min(4u, params.groups - word * 4u); k++) {
    packed |= bestOf(word * 4u + k) << (8u * k);
  }
  choices[word] = packed;
}

fn codeAt(at: u32) -> i32 {
  return extractBits(i32(codes[at >> 2u]), (at & 3u) * 8u, 8u);
}

fn stepAt(at: u32) -> i32 {
  return extractBits(i32(steps[at >> 2u]), (at & 3u) * 8u, 8u);
}

// The set of a group.
fn bestOf(group: u32) -> u32 {
  let begin = group * params.setCols;
  let end = begin + params.setCols;
  var most = 0u;
  for (var i = begin; i < end; i++) {
    most = max(most, u32(abs(codeAt(i))));
  }
  let start = i32((first[most >> 2u] >> ((most & 3u) * 8u)) & 0xffu);
  var least = 0u;
  var best = -1;
  for (var k = 0; k < i32(params.candidates); k++) {
    let chosen = max(0, start - k);
    let table = u32(chosen) * 32u;
    var sum = 0u;
    for (var i = begin; i < end; i++) {
      let code = codeAt(i);
      var at = select(0u, 8u, code > stepAt(table + 7u));
      at |= select(0u, 4u, code > stepAt(table + at + 3u));
      at |= select(0u, 2u, code > stepAt(table + at + 1u));
      at += select(0u, 1u, code > stepAt(table + at));
      let error = clamp(code - stepAt(table + 16u + at), -128, 127);
      sum += u32(error * error);
    }
    if (best < 0 || sum < least) {
      least = sum;
      best = chosen;
    }
  }
  return u32(best);
}
