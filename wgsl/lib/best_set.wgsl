// Of some sets of levels the one that suits a group of columns best. Integers, whose sum is the same in any order.
// A shader that uses it says how large groups are and where their values lie:
//
//   unitsAt(i)             value i in units (lib/levels.wgsl)
//   placeOf(units)         which entry of `first`, four in a word, a largest magnitude has
//   errorOf(chosen, units) the squared error that set `chosen` leaves
//
// `count` values from `begin` on; candidates go down from the first one.
fn bestSet(begin: u32, count: u32, candidates: i32) -> u32 {
  var most = 0u;
  for (var i = begin; i < begin + count; i++) {
    most = max(most, placeOf(unitsAt(i)));
  }
  let start = i32(byteOf(first[most >> 2u], most));
  var least = 0u;
  var best = -1;
  for (var k = 0; k < candidates; k++) {
    let chosen = max(0, start - k);
    var sum = 0u;
    for (var i = begin; i < begin + count; i++) {
      sum += errorOf(u32(chosen), unitsAt(i));
    }
    if (best < 0 || sum < least) {
      least = sum;
      best = chosen;
    }
  }
  return u32(best);
}
