// An element of a matrix whose numbers are stored in 4 or in 2 bytes, two to a word, the first in the low
// half. Nothing here needs a feature of the device. `storage` is a constant wherever it is called, so that
// one branch remains. Products and sums stay f32 in every case.

const STORAGE_F32 = 0u;
const STORAGE_F16 = 1u;

// The word that element `at` lies in.
fn wordOf(at: u32, storage: u32) -> u32 {
  return select(at >> 1u, at, storage == STORAGE_F32);
}

// Element `at`, of the word it lies in.
fn elementOf(word: u32, at: u32, storage: u32) -> f32 {
  if (storage == STORAGE_F32) {
    return bitcast<f32>(word);
  }
  let isSecond = (at & 1u) == 1u;
  let pair = unpack2x16float(word);
  return select(pair.x, pair.y, isSecond);
}
