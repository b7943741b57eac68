// Set and levels of a group that has one scale (lib/best_set.wgsl, lib/level_groups.wgsl). Needs levelOf(chosen,
// units), the level of a set that is nearest.

const CANDIDATES = 4;

// That of the group at hand.
var<private> groupScale: u32;

fn unitsAt(i: u32) -> i32 {
  return unitsOf(x[i], groupScale);
}

fn setOf(group: u32) -> u32 {
  let begin = group * params.setCols;
  groupScale = scaleAt(begin);
  let best = bestSet(begin, params.setCols, CANDIDATES);
  for (var i = begin; i < begin + params.setCols; i += 4u) {
    var packed = 0u;
    for (var k = 0u; k < 4u; k++) {
      packed |= (u32(levelOf(best, unitsAt(i + k))) & 0xffu) << (8u * k);
    }
    codes[i >> 2u] = packed;
  }
  return best;
}
