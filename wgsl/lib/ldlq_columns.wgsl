// Rounds the columns of a block from the last to the first: what ldlq_block.wgsl and ldlq_levels.wgsl share. Needs
// lib/exact.wgsl, lib/operand.wgsl, PANEL_STORAGE, and of the shader
//
//   scaleOf(row, j)             the scale of an element, as bits
//   noteRule(place, row, j)     fetches what else its rule needs, for `place` of the step
//   codeAt(place, wanted, scale) its code
//   taken(wanted, scale, code)  what the code takes of it
//   reachStep(local, top, first) settles what else a step needs, once all that is fed back into it is there; runs in
//                               all invocations
//
// A workgroup takes 16 rows, in steps of 8 columns: 16 invocations each round the 8 columns of a row, with
// nothing but the memory of the workgroup; then all feed the 8 errors back into the columns before them, 4
// columns of 4 rows each, and fetch what the next step needs. So an element of the feedback gets its terms in
// the same order as on the CPU, and barriers are 2 per 8 columns.

const ROWS = 16u;
const STEP = 8u;
const INVOCATIONS = 128u;
// Vectors of a row, and one beside it: the same column of two rows then lies in different banks.
const STRIDE = 33u;

// The feedback to each row, and the errors and codes of the columns of this step.
var<workgroup> fed: array<vec4f, ROWS * STRIDE>;
var<workgroup> errors: array<vec4f, ROWS * 2u>;
var<workgroup> packed: array<u32, ROWS * 2u>;
// Weights and scales of this step, [STEP, ROWS], and the part of the panel within it, [STEP, STEP].
var<workgroup> stepWeights: array<f32, STEP * ROWS>;
var<workgroup> stepScales: array<u32, STEP * ROWS>;
var<workgroup> stepPanel: array<f32, STEP * STEP>;

fn panelAt(row: u32, col: u32) -> f32 {
  let at = params.panelStart + row * params.panelRow + col;
  return elementOf(panel[wordOf(at, PANEL_STORAGE)], at, PANEL_STORAGE);
}

// What is fed back into a column of a row of the workgroup so far.
fn fedInto(row: u32, j: u32) -> f32 {
  return fed[row * STRIDE + j / 4u][j % 4u];
}

// The feedback of earlier blocks, 0 beyond the matrix.
fn feedbackAt(row: u32, col: u32) -> f32 {
  if (row >= params.rows || col >= params.width) {
    return 0.0;
  }
  return feedback[params.feedbackStart + row * params.feedbackRow + col];
}

fn panelVector(row: u32, col: u32) -> vec4f {
  return vec4f(
    panelAt(row, col), panelAt(row, col + 1u), panelAt(row, col + 2u), panelAt(row, col + 3u),
  );
}

// A product, rounded before it joins a sum: see keep in lib/exact.wgsl.
fn product(x: f32, y: f32) -> f32 {
  return keepOne(x * y, params.zero);
}

// Fetches weights, scales and panel of the step that begins at column `first`.
fn fetchStep(local: u32, top: u32, first: u32) {
  let row = top + local / STEP;
  let j = first + local % STEP;
  if (row < params.rows && j < params.width) {
    let place = (local % STEP) * ROWS + local / STEP;
    stepWeights[place] = weights[params.weightsStart + row * params.weightsRow + j];
    stepScales[place] = scaleOf(row, j);
    noteRule(place, row, j);
  }
  let below = local / STEP;
  if (local % STEP < below && below < STEP && first + below < params.width) {
    stepPanel[local] = panelAt(first + below, j);
  }
}

// Rounds columns first .. first + 8 of row `local` of the workgroup.
fn roundStep(local: u32, first: u32) {
  var step = array<f32, 8>();
  var found = array<f32, 8>();
  var words = array<u32, 2>();
  for (var k = 0u; k < STEP; k++) {
    step[k] = fedInto(local, first + k);
  }
  for (var k = min(STEP, params.width - first); k > 0u; ) {
    k--;
    let scale = stepScales[k * ROWS + local];
    let weight = stepWeights[k * ROWS + local];
    let wanted = bitcast<u32>(weight + step[k]);
    let code = codeAt(k * ROWS + local, wanted, scale);
    words[k / 4u] |= (u32(code) & 0xffu) << (8u * (k % 4u));
    let error = weight - taken(wanted, scale, code);
    found[k] = error;
    for (var i = 0u; i < k; i++) {
      step[i] = keepOne(step[i] + product(error, stepPanel[k * STEP + i]), params.zero);
    }
  }
  errors[2u * local] = vec4f(found[0], found[1], found[2], found[3]);
  errors[2u * local + 1u] = vec4f(found[4], found[5], found[6], found[7]);
  packed[2u * local] = words[0];
  packed[2u * local + 1u] = words[1];
}

// Writes errors and codes of the step.
fn storeStep(local: u32, top: u32, first: u32) {
  let row = top + local / STEP;
  let k = local % STEP;
  if (row < params.rows && first + k < params.width) {
    let error = errors[2u * (local / STEP) + k / 4u][k % 4u];
    weights[params.weightsStart + row * params.weightsRow + first + k] = error;
    if (k % 4u == 0u) {
      let word = params.codesStart + row * params.codesRow + (first + k) / 4u;
      codes[word] = packed[2u * (local / STEP) + k / 4u];
    }
  }
}

@compute @workgroup_size(128)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let top = workgroupIndex(workgroup, workgroups) * ROWS;
  for (var index = local; index < ROWS * STRIDE; index += INVOCATIONS) {
    let row = top + index / STRIDE;
    let col = 4u * (index % STRIDE);
    // Some compilers refuse to write to an element of a vector that is only known when it runs.
    fed[index] = vec4f(
      feedbackAt(row, col), feedbackAt(row, col + 1u),
      feedbackAt(row, col + 2u), feedbackAt(row, col + 3u),
    );
  }
  // Columns of a vector lie with neighbouring invocations, so that they read neighbouring words.
  let vector = local % 32u;
  let group = local / 32u;
  let steps = (params.width + STEP - 1u) / STEP;
  fetchStep(local, top, (max(steps, 1u) - 1u) * STEP);
  for (var left = steps; left > 0u; left--) {
    let first = (left - 1u) * STEP;
    workgroupBarrier();
    reachStep(local, top, first);
    if (local < ROWS && top + local < params.rows) {
      roundStep(local, first);
    }
    workgroupBarrier();
    storeStep(local, top, first);
    if (left > 1u) {
      fetchStep(local, top, first - STEP);
    }
    if (4u * vector < first) {
      var at = vec4u(group, group + 4u, group + 8u, group + 12u);
      var t0 = fed[at.x * STRIDE + vector];
      var t1 = fed[at.y * STRIDE + vector];
      var t2 = fed[at.z * STRIDE + vector];
      var t3 = fed[at.w * STRIDE + vector];
      for (var half = 2u; half > 0u; ) {
        half--;
        let e0 = errors[2u * at.x + half];
        let e1 = errors[2u * at.y + half];
        let e2 = errors[2u * at.z + half];
        let e3 = errors[2u * at.w + half];
        for (var k = 4u; k > 0u; ) {
          k--;
          let j = first + 4u * half + k;
          if (j < params.width) {
            let p = panelVector(j, 4u * vector);
            t0 = keep(t0 + keep(e0[k] * p, params.zero), params.zero);
            t1 = keep(t1 + keep(e1[k] * p, params.zero), params.zero);
            t2 = keep(t2 + keep(e2[k] * p, params.zero), params.zero);
            t3 = keep(t3 + keep(e3[k] * p, params.zero), params.zero);
          }
        }
      }
      fed[at.x * STRIDE + vector] = t0;
      fed[at.y * STRIDE + vector] = t1;
      fed[at.z * STRIDE + vector] = t2;
      fed[at.w * STRIDE + vector] = t3;
    }
  }
}
