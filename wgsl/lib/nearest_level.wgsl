// Levels from tables of half steps. A shader that uses it has the tables in `nearest`, four entries in a word.

// The level of set `chosen` that is nearest to a value in units.
fn levelOf(chosen: u32, units: i32) -> i32 {
  let place = chosen * 512u + u32(clamp((units + 15) >> 4u, -255, 256) + 255);
  return extractBits(i32(nearest[place >> 2u]), (place & 3u) * 8u, 8u);
}

// Which entry of `first` a magnitude has.
fn placeOf(units: i32) -> u32 {
  return u32(abs(units)) >> 5u;
}

// The squared error of that level.
fn errorOf(chosen: u32, units: i32) -> u32 {
  let error = units - 32 * levelOf(chosen, units);
  return u32(error * error);
}
