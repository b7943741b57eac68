import assert from "node:assert/strict";
import fc from "fast-check";
import { createSharedMemory } from "../../../src/backend/cpu/arena.ts";
import { instantiate } from "../../../src/backend/cpu/instantiate.ts";
import { compileLinalg, type LinalgExports } from "../../../src/backend/cpu/linalg_module.ts";
import { relaxedFeedBack } from "../../../src/backend/cpu/relaxed_module.ts";
import { BYTE_RUN, type ByteMatrix } from "../../../src/linalg/linalg_kernels.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import type { LinalgKernels } from "../../../src/linalg/linalg_kernels.ts";
import { assertSameBits, type Subject } from "../subject.ts";
import { flavors, seeds, values } from "../values.ts";
import { assertSameOnAllLinalg, testEachLinalg } from "./linalg_subject.ts";
import { relativeError } from "./relative_error.ts";

/** Room for `lines` packed lines of `terms`, with `starts` more quads in every run. */
function bytes(subject: Subject | null, lines: number, terms: number, starts = 0): ByteMatrix {
  const runs = Math.max(1, Math.ceil(terms / BYTE_RUN));
  const count = lines * (Math.ceil(terms / 4) + starts * runs);
  return {
    quads: subject?.output(new Int32Array(), count) ?? new Int32Array(count),
    scales: subject?.output(new Float32Array(), lines * runs) ?? new Float32Array(lines * runs),
  };
}

interface Problem {
  readonly rows: number;
  readonly cols: number;
  readonly terms: number;
  readonly gap: number;
  readonly errors: Float32Array;
  readonly factor: Float32Array;
}

/** Packs both operands run by run. */
function pack(linalg: LinalgKernels, subject: Subject, problem: Problem) {
  const { rows, cols, terms, gap, errors, factor } = problem;
  const padded = Math.ceil(rows / 4) * 4, width = terms + gap;
  const e = bytes(subject, padded, terms), l = bytes(subject, cols, terms, 1);
  const x = subject.input(errors), y = subject.input(factor);
  for (let run = 0; run === 0 || run * BYTE_RUN < terms; run++) {
    const from = run * BYTE_RUN, own = Math.min(BYTE_RUN, terms - from);
    const part = ({ quads, scales }: ByteMatrix, lines: number, starts: number) => ({
      quads: quads.subarray(lines * run * (BYTE_RUN / 4 + starts)),
      scales: scales.subarray(lines * run),
    });
    linalg.packErrorsI8(part(e, padded, 0), matrix(x.subarray(from), rows, own, width));
    const rest = y.subarray(from * (cols + gap));
    linalg.packFactorI8(part(l, cols, 1), matrix(rest, own, cols, cols + gap));
  }
  return { e, l, padded };
}

const problems = fc.record({
  rows: fc.integer({ min: 0, max: 13 }),
  cols: fc.integer({ min: 0, max: 3 }).map((tiles) => 8 * tiles),
  terms: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constantFrom(127, 128, 129, 261)),
  gap: fc.nat(3),
  seed: seeds,
  flavor: flavors,
  add: fc.boolean(),
});

Deno.test("packErrorsI8(), packFactorI8(), feedBackI8() give the same on every backend", () => {
  fc.assert(
    fc.property(problems, (problem) => {
      const { rows, cols, terms, gap, seed, flavor, add } = problem;
      const errors = values(seed, rows * (terms + gap), flavor);
      const factor = values(seed + 1, terms * (cols + gap), flavor);
      const start = values(seed + 2, Math.ceil(rows / 4) * 4 * (cols + gap), "plain");
      assertSameOnAllLinalg(JSON.stringify(problem), (linalg, subject) => {
        const { e, l, padded } = pack(linalg, subject, { ...problem, errors, factor });
        const c = subject.inOut(start);
        linalg.feedBackI8(matrix(c, padded, cols, cols + gap), e, l, terms, add);
        return [e.quads, e.scales, l.quads, l.scales, c];
      });
    }),
    { numRuns: 200 },
  );
});

Deno.test("feedBackI8() gives the same with relaxed SIMD and without", () => {
  const rows = 8, cols = 16, terms = 300, memory = createSharedMemory(1 << 17);
  const { feedBackI8: plain } = instantiate<LinalgExports>(compileLinalg(), memory);
  const relaxed = relaxedFeedBack(memory, plain, 1 << 16);
  assert(relaxed !== null, "Deno has relaxed SIMD");
  const at = { e: 0, l: 8192, scales: 32768, c: 40960 };
  new Float32Array(memory.buffer, at.scales, cols * 3).fill(0.5);
  // Any bytes, but for those of errors, which have seven bits; the ends of both ranges often.
  const draw = (address: number, count: number, seed: number, ends: readonly number[]) => {
    const view = new Int8Array(memory.buffer, address, count);
    values(seed, count, "plain").forEach((x, i) => {
      const byte = Math.floor(Math.abs(x) * 1e6) % 128;
      view[i] = i % 3 === 0 ? ends[i % ends.length]! : ends[0]! < 0 ? 2 * byte - 127 : byte;
    });
  };
  draw(at.e, rows * terms, 1, [127, 1, 0]);
  draw(at.l, cols * (terms + 4 * 3), 2, [-127, 127, -128]);
  // Sums begin with small numbers, so that all are exact in f32.
  for (let run = 0; run < 3; run++) {
    const stripBytes = 8 * Math.min(132, terms - 128 * run + 4);
    for (let strip = 0; strip < 2; strip++) {
      new Int32Array(memory.buffer, at.l + run * cols * 132 + strip * stripBytes, 8).fill(-9);
    }
  }
  const [want, got] = [plain, relaxed].map((product) => {
    product(at.c, at.e, at.scales, at.l, at.scales, rows, cols, terms, cols, 0);
    return new Float32Array(memory.buffer, at.c, rows * cols).slice();
  });
  assert(want!.some((x) => x !== want![0]));
  assertSameBits(got!, want!, "relaxed");
});

Deno.test("relaxedFeedBack() is null on an engine that makes other sums", () => {
  const memory = createSharedMemory(1 << 16);
  const { feedBackI8 } = instantiate<LinalgExports>(compileLinalg(), memory);
  const wrong: typeof feedBackI8 = (...args) => {
    feedBackI8(...args);
    new Float32Array(memory.buffer, args[0], 1)[0]! += 1;
  };
  assert.equal(relaxedFeedBack(memory, wrong, 4096), null);
  assert.notEqual(relaxedFeedBack(memory, feedBackI8, 4096), null);
});

testEachLinalg("feedBackI8() gives a product worked out by hand", (linalg, subject) => {
  const errors = Float32Array.of(63, -1, 0.5, 0, 0, 0);
  const factor = new Float32Array(24);
  factor.set([2, 127, 0], 0); // columns 0, 1, 2 of the first term
  factor.set([127, 4, 0], 8);
  factor.set([-3, 5, 0], 16);
  const problem = { rows: 2, cols: 8, terms: 3, gap: 0, errors, factor };
  const { e, l } = pack(linalg, subject, problem);
  assert.deepEqual([...e.scales], [1, 0, 0, 0]);
  assert.deepEqual([...new Uint8Array(e.quads.slice(0, 1).buffer)], [127, 63, 64, 64]);
  assert.equal(l.quads[0], -64 * (2 + 127 - 3));
  const c = subject.inOut(new Float32Array(32).fill(5));
  linalg.feedBackI8(matrix(c, 4, 8), e, l, 3, true);
  // 0.5 is half-way between codes 0 and 1, and goes to the even one.
  assert.deepEqual([...c.slice(0, 3)], [5 + 2 * 63 - 127, 5 + 127 * 63 - 4, 5]);
  assert.deepEqual([...c.slice(8)], Array(24).fill(5));
});

testEachLinalg("feedBackI8() is off by about a hundredth of a usual product", (linalg, subject) => {
  const rows = 40, terms = 256, cols = 16;
  // Errors of rounding are spread evenly.
  const errors = values(1, rows * terms, "plain").map((x) => (x * 1000) % 1);
  const factor = values(2, terms * cols, "plain");
  const { e, l } = pack(linalg, subject, { rows, cols, terms, gap: 0, errors, factor });
  const c = subject.output(errors, rows * cols);
  linalg.feedBackI8(matrix(c, rows, cols), e, l, terms, false);
  const relative = relativeError(c, errors, factor, { rows, terms, cols });
  assert(relative < 0.013, `${relative}`);
  assert(relative > 0.003, "these are not bytes");
});

testEachLinalg("feedBackI8() and what packs for it reject what does not fit", (linalg) => {
  const m = (rows: number, cols: number) => matrix(new Float32Array(rows * cols), rows, cols);
  assert.throws(() => linalg.packErrorsI8(bytes(null, 4, 5), m(5, 5)), {
    message: "Cannot run packErrorsI8: out has 8 quads, needs 16",
  });
  assert.throws(() => linalg.packErrorsI8(bytes(null, 4, 129), m(4, 129)), /129 terms, at most/);
  assert.throws(() => linalg.packFactorI8(bytes(null, 9, 3, 1), m(3, 9)), /multiple of 8/);
  assert.throws(() => linalg.packFactorI8(bytes(null, 8, 4), m(4, 8)), /8 quads, needs 16/);
  assert.throws(
    () => linalg.feedBackI8(m(3, 8), bytes(null, 4, 2), bytes(null, 8, 2, 1), 2, false),
    /3 x 8/,
  );
  assert.throws(
    () => linalg.feedBackI8(m(4, 8), bytes(null, 4, 128), bytes(null, 8, 129, 1), 129, false),
    /e has 128 quads/,
  );
  const short = { quads: new Int32Array(999), scales: new Float32Array(8) };
  assert.throws(
    () => linalg.feedBackI8(m(4, 8), bytes(null, 4, 129), short, 129, false),
    /l has 8 scales, needs 16/,
  );
});
