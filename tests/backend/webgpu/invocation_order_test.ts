/**
 * Whether shaders depend on the order in which invocations run. A software driver runs those of a workgroup in
 * vectors, one after the other, from barrier to barrier, always in the same order, so that a missing barrier
 * does not show. Here invocations swap their numbers, so that those which must wait for one another lie in
 * other vectors, and workgroups run from the last to the first.
 */

import assert from "node:assert/strict";
import {
  ALL_SHADERS,
  failuresWith,
  problemsByShader,
  shaderNamed,
} from "../../support/broken_shaders.ts";
import { testGpuOnly } from "../../support/gpu.ts";

/** Number `n` becomes `n * factor + offset`, modulo the size of a workgroup: a power of 2, so factors are odd. */
const ORDERS = [[33, 33], [255, 255], [13, 5]] as const;

type Order = readonly [factor: number, offset: number];

const LOCAL = "@builtin(local_invocation_index) local: u32";

/**
 * `code` with the steps of its reductions one after the other. Mesa's driver leaves a loop with a barrier by a
 * last turn in which no invocation is active, but which has the barrier: it would stand in for one that is
 * missing behind the loop.
 */
function unrolled(code: string): string {
  const head = /for \(var half = (\d+)u; half > 0u; half >>= 1u\) \{/.exec(code);
  if (head === null) return code;
  const start = head.index + head[0].length;
  let end = start;
  for (let depth = 1; depth > 0; end++) {
    if (code[end] === "{") depth++;
    else if (code[end] === "}") depth--;
  }
  const body = code.slice(start, end - 1), steps: string[] = [];
  for (let half = Number(head[1]); half > 0; half >>= 1) {
    steps.push(`{ let half = ${half}u; ${body} }`);
  }
  return code.slice(0, head.index) + steps.join("\n") + code.slice(end);
}

/** `code` with its invocations and workgroups numbered otherwise. */
function reordered(code: string, [factor, offset]: Order): string {
  const size = Number(/@workgroup_size\((\d+)\)/.exec(code)![1]);
  return code
    .replace(LOCAL, "@builtin(local_invocation_index) physical: u32")
    .replace(
      /(@compute[^{]*\{\n)/,
      (start) => `${start}let local = (physical * ${factor}u + ${offset}u) % ${size}u;\n`,
    )
    .replace(
      "return id.y * count.x + id.x;",
      "return count.x * count.y - 1u - (id.y * count.x + id.x);",
    );
}

/** Those whose invocations wait for one another. */
const WITH_BARRIERS = ALL_SHADERS.filter(({ code }) => code.includes("workgroupBarrier();"));

testGpuOnly("shaders give the same in whatever order their invocations run", async (gpu) => {
  const problems = await problemsByShader(gpu);
  assert(WITH_BARRIERS.length >= 8);
  for (const shader of WITH_BARRIERS) {
    assert(shader.code.includes(LOCAL), shader.name);
    const code = reordered(unrolled(shader.code), ORDERS[0]);
    const failed = await failuresWith(gpu, shader, code, problems.get(shader.name)!);
    assert.deepEqual(failed, [], shader.name);
  }
});

/** The text of a shader that lacks its last barrier, in every order until one shows it. */
const MISSING = ["descend_rows", "absmax", "gemm_i8", "hadamard", "ldlq_block"];

for (const name of MISSING) {
  testGpuOnly(`the barrier that ${name} would lack is found by another order`, async (gpu) => {
    const shader = shaderNamed(name), problems = await problemsByShader(gpu);
    const whole = unrolled(shader.code), at = whole.lastIndexOf("workgroupBarrier();");
    const code = whole.slice(0, at) + whole.slice(at).replace("workgroupBarrier();", "");
    for (const order of ORDERS) {
      const own = problems.get(name)!;
      const failed = await failuresWith(gpu, shader, reordered(code, order), own);
      if (failed.length > 0) return;
    }
    assert.fail(`${name} gives the same without its last barrier`);
  });
}
