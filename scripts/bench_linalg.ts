/**
 * Times the linear algebra: products on one thread, and GPTQ of a square layer with a given Hessian,
 * factorisation included, on one worker and on several. Best of some runs; nothing is asserted.
 *
 *     deno run -A scripts/bench_linalg.ts [--size 4096] [--workers 1,2] [--rounds 2] [--only gemm,gptq]
 */

import { parseArgs } from "node:util";
import { Arena, createSharedMemory, LINALG_WORKSPACE_BYTES } from "../src/backend/cpu/arena.ts";
import { compileLinalg } from "../src/backend/cpu/linalg_module.ts";
import { WasmLinalg } from "../src/backend/cpu/wasm_linalg.ts";
import { DAMPING_DEFAULT } from "../src/linalg/damping.ts";
import { GRAM_RUN } from "../src/linalg/linalg_kernels.ts";
import { LDLQ_BLOCK } from "../src/linalg/ldlq.ts";
import { matrix, transpose } from "../src/linalg/matrix.ts";
import { createTeamControl } from "../src/linalg/team.ts";
import { GptqTeam, type TeamTimes } from "../tests/support/gptq_team.ts";

const { values: flags } = parseArgs({
  options: {
    size: { type: "string", default: "4096" },
    workers: { type: "string", default: "1,2" },
    rounds: { type: "string", default: "2" },
    only: { type: "string", default: "gemm,gptq" },
  },
});
const sections = flags.only.split(",");
const rounds = Number(flags.rounds);

/** Small numbers around 0, the same every time. */
function fill(values: Float32Array | Float64Array | Int8Array, scale: number): void {
  let state = 1;
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = (state / 2 ** 31 - 1) * scale;
  }
}

function best(run: () => void): number {
  let least = Infinity;
  for (let k = 0; k < 2 + rounds; k++) {
    const start = performance.now();
    run();
    least = Math.min(least, performance.now() - start);
  }
  return least;
}

function report(name: string, ms: number, operations: number): void {
  const rate = (operations / ms / 1e6).toFixed(1);
  console.log(`${name.padEnd(40)}${ms.toFixed(1).padStart(9)} ms ${rate.padStart(7)} G/s`);
}

function benchGemm(): void {
  const n = 1024, count = n * n, operations = 2 * n ** 3;
  const bytes = 56 * count + LINALG_WORKSPACE_BYTES;
  const arena = new Arena(createSharedMemory(bytes), 0, bytes);
  const linalg = new WasmLinalg(compileLinalg(), arena);
  const single = [arena.f32(count), arena.f32(count), arena.f32(count)] as const;
  const double = [arena.f64(count), arena.f64(count), arena.f64(count)] as const;
  const codes = [arena.i8(count), arena.i8(count)] as const, sums = arena.i32(count);
  for (const values of [single[0], single[1], double[0], double[1]]) fill(values, 1);
  for (const values of codes) fill(values, 127);
  const [a, b, c] = single.map((data) => matrix(data, n, n)) as [never, never, never];
  const [d, e, f] = double.map((data) => matrix(data, n, n)) as [never, never, never];
  report(`gemmF32 ${n}`, best(() => linalg.gemmF32(c, a, b, "set")), operations);
  report(
    `gemmF32 ${n}, B transposed`,
    best(() => linalg.gemmF32(c, a, transpose(b), "set")),
    operations,
  );
  report(`gemmF64 ${n}`, best(() => linalg.gemmF64(f, d, e, "set")), operations);
  report(
    `gemmF32F64 ${n}, XᵀX`,
    best(() => linalg.gemmF32F64(f, transpose(a), a, "set")),
    operations,
  );
  report(
    `gemmF32ToF64 ${n}, XᵀX`,
    best(() => linalg.gemmF32ToF64(f, transpose(a), a, "set")),
    operations,
  );
  report(
    `gemmF64ByF32 ${n}, B transposed`,
    best(() => linalg.gemmF64ByF32(f, d, transpose(e), "set")),
    operations,
  );
  const terms = LDLQ_BLOCK, pairs = n * terms / 2; // as ldlq calls it: bands of rows, one block of columns
  const packed = [arena.i32(pairs), arena.i32(pairs)] as const, scales = arena.f32(n);
  const errors = { pairs: packed[0], scales }, factor = { pairs: packed[1], scales };
  linalg.packErrors(errors, matrix(single[0], n, terms));
  linalg.packFactor(factor, matrix(single[1], terms, terms));
  const fed = matrix(single[2], n, terms);
  report(
    `feedBack ${n} x ${terms} x ${terms}`,
    best(() => linalg.feedBack(fed, errors, factor, terms, true)),
    2 * n * terms ** 2,
  );
  const errorBytes = { quads: packed[0], scales }, factorBytes = { quads: packed[1], scales };
  linalg.packErrorsI8(errorBytes, matrix(single[0], n, terms));
  linalg.packFactorI8(factorBytes, matrix(single[1], terms, terms));
  report(
    `feedBackI8 ${n} x ${terms} x ${terms}`,
    best(() => linalg.feedBackI8(fed, errorBytes, factorBytes, terms, true)),
    2 * n * terms ** 2,
  );
  const runs = n / GRAM_RUN, inputs = { pairs: arena.i32(n * n / 2), scales: arena.f32(n * runs) };
  for (let run = 0; run < runs; run++) {
    const at = run * GRAM_RUN * n;
    const into = {
      pairs: inputs.pairs.subarray(at / 2),
      scales: inputs.scales.subarray(run * n),
    };
    linalg.packFactor(into, matrix(single[0].subarray(at), GRAM_RUN, n));
  }
  report(
    `gramI16 ${n}, XᵀX`,
    best(() =>
      linalg.gramI16(f, inputs, { terms: n, first: 0, end: n, factor: 1 / n, add: false })
    ),
    n ** 2 * n,
  );
  report(`gemmI8 ${n}`, best(() => linalg.gemmI8(sums, codes[0], codes[1], n, n, n)), operations);
}

/** H of correlated channels with some spread in energy. */
function fillHessian(h: Float64Array, n: number): void {
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      const spread = 1 + ((i * 37) % 101) / 101 * (((j * 37) % 101) / 101);
      const value = spread / (1 + (i - j) / 8) + (i === j ? 0.3 : 0);
      h[i * n + j] = value;
      h[j * n + i] = value;
    }
  }
}

async function benchGptq(n: number, size: number): Promise<void> {
  const scratchBytes = 16 * n * LDLQ_BLOCK + 4 * n * n + LINALG_WORKSPACE_BYTES + (8 << 20);
  const bytes = 13 * n * n + 4 * n + size * scratchBytes + 4096;
  const memory = createSharedMemory(bytes);
  const arena = new Arena(memory, 0, bytes - size * scratchBytes);
  const hessian = arena.f64(n * n), weights = arena.f32(n * n), codes = arena.i8(n * n);
  const scales = arena.f32(n);
  const team = new GptqTeam(size), module = compileLinalg();
  let least: TeamTimes | undefined;
  const total = (times: TeamTimes) => times.factorMs + times.roundMs;
  for (let k = 0; k < rounds; k++) {
    fillHessian(hessian, n);
    fill(weights, 0.05);
    scales.fill(0.05 / 127);
    const [times] = await team.run({
      module,
      memory,
      control: createTeamControl(),
      rows: n,
      cols: n,
      blockSize: n,
      weights: weights.byteOffset,
      codes: codes.byteOffset,
      scales: scales.byteOffset,
      hessian: hessian.byteOffset,
      scratchBase: bytes - size * scratchBytes,
      scratchBytes,
      actOrder: false,
      damping: DAMPING_DEFAULT,
    });
    if (least === undefined || total(times!) < total(least)) least = times;
  }
  team.close();
  const workers = `${size} worker${size > 1 ? "s" : ""}`;
  report(`factor ${n}, ${workers}`, least!.factorMs, n ** 3 / 3);
  report(`round ${n} x ${n}, ${workers}`, least!.roundMs, n ** 3);
  report(`GPTQ ${n} x ${n}, ${workers}`, total(least!), (4 * n ** 3) / 3);
}

if (sections.includes("gemm")) benchGemm();
if (sections.includes("gptq")) {
  for (const size of flags.workers.split(",")) await benchGptq(Number(flags.size), Number(size));
}
