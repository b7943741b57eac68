// The sets of groups of columns, one byte each, four in a word, the last word filled with 0: one invocation a
// word, its groups one after the other. A shader that uses it finds the set of a group by `setOf`.

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
    packed |= setOf(word * 4u + k) << (8u * k);
  }
  choices[word] = packed;
}

// The scale of element `at`.
fn scaleAt(at: u32) -> u32 {
  let across = params.cols / params.groupCols;
  let row = at / params.cols;
  return scales[(row / params.groupRows) * across + (at % params.cols) / params.groupCols];
}
