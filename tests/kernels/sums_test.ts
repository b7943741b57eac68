import assert from "node:assert/strict";
import fc from "fast-check";
import { CPU_BACKENDS, CpuRoom } from "./cpu_room.ts";
import { assertSameBits, type NumberArray } from "./subject.ts";
import { flavors, seeds, values } from "./values.ts";

/** Rows and columns around those that kernels take at a time. */
const shapes = fc.record({ rows: fc.nat(5), cols: fc.nat(19) });

/** Numbers behind an output that must stay. */
const BEHIND = Float64Array.of(7, 8, 9);

/** Fails if backends differ in what `run` returns, or write behind `count` sums. */
function assertSame(
  context: string,
  before: Float64Array,
  run: (room: CpuRoom, sums: Float64Array) => void,
): void {
  const [want, got] = CPU_BACKENDS.map((kernels) => {
    const room = new CpuRoom(kernels), all = room.f64([...before, ...BEHIND]);
    run(room, all.subarray(0, before.length));
    return all.slice();
  }) as [NumberArray, NumberArray];
  assertSameBits(got, want, context);
  assert.deepEqual(got.slice(before.length), BEHIND, context);
}

Deno.test("addColumns() and addSquares() add to the sum of every column", () => {
  for (const kernels of CPU_BACKENDS) {
    const room = new CpuRoom(kernels), x = room.f32(Float32Array.of(1, 2, 3, -4, 5, -6));
    const sums = room.f64([100, 200, 300]), squares = room.f64([0, 0, 0.5]);
    kernels.addColumns(sums, x);
    kernels.addSquares(squares, x);
    assert.deepEqual([...sums], [97, 207, 297]);
    assert.deepEqual([...squares], [17, 29, 45.5]);
  }
});

Deno.test("addColumns() and addSquares() give the same on every backend for any values", () => {
  fc.assert(fc.property(seeds, shapes, flavors, (seed, { rows, cols }, flavor) => {
    const x = values(seed, rows * cols, flavor), context = `seed ${seed}, ${rows} x ${cols}`;
    const before = Float64Array.from(values(seed + 1, cols, "plain"), (value) => value / 3);
    for (const name of ["addColumns", "addSquares"] as const) {
      assertSame(`${context}, ${name}`, before, (room, sums) => {
        room.kernels[name](sums, room.f32(x));
      });
    }
  }));
});

Deno.test("addColumns() adds up more rows than one call into the module takes", () => {
  const rows = 70_000, x = new Float32Array(rows).map((_, i) => i % 7 - 2.5);
  assertSame("70,000 rows", Float64Array.of(0.1), (room, sums) => {
    room.kernels.addColumns(sums, room.f32(x));
  });
});

Deno.test("multiplyRows() and weighDifferences() add up along rows", () => {
  for (const kernels of CPU_BACKENDS) {
    const room = new CpuRoom(kernels), a = room.f32(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9));
    const b = room.f32(Float32Array.of(1, 1, 1, 0, 1, 2, 9, 8, 7));
    const out = room.f64([99, 99, 99]);
    kernels.multiplyRows(out, a, b);
    assert.deepEqual([...out], [6, 17, 190]);
    kernels.weighDifferences(out, room.f64([1, 10, 100]), a, b);
    assert.deepEqual([...out], [210, 444, 198]);
  }
});

Deno.test("multiplyRows() and weighDifferences() give the same on every backend for any values", () => {
  fc.assert(fc.property(seeds, shapes, flavors, (seed, { rows, cols }, flavor) => {
    const a = values(seed, rows * cols, flavor), b = values(seed + 1, rows * cols, flavor);
    const weights = Float64Array.from(values(seed + 2, cols, "plain"), (value) => value / 3);
    const context = `seed ${seed}, ${rows} x ${cols}`, before = new Float64Array(rows).fill(99);
    assertSame(`${context}, products`, before, (room, sums) => {
      room.kernels.multiplyRows(sums, room.f32(a), room.f32(b));
    });
    assertSame(`${context}, squares`, before, (room, sums) => {
      const own = room.f32(a);
      room.kernels.multiplyRows(sums, own, own);
    });
    assertSame(`${context}, differences`, before, (room, sums) => {
      room.kernels.weighDifferences(sums, room.f64(weights), room.f32(a), room.f32(b));
    });
  }));
});

Deno.test("squaredError() sums up squares, of differences, with a bias or without", () => {
  for (const kernels of CPU_BACKENDS) {
    const room = new CpuRoom(kernels), a = room.f32(Float32Array.of(1, 2, 3, 4));
    const b = room.f32(Float32Array.of(0, 2, 5, 1)), bias = room.f32(Float32Array.of(1, -1));
    assert.equal(kernels.squaredError(a, null, null), 30);
    assert.equal(kernels.squaredError(a, b, null), 14);
    assert.equal(kernels.squaredError(a, null, bias), 4 + 1 + 16 + 9);
    assert.equal(kernels.squaredError(a, b, bias), 4 + 1 + 1 + 4);
  }
});

Deno.test("squaredError() gives the same on every backend for any values", () => {
  fc.assert(fc.property(seeds, shapes, flavors, (seed, { rows, cols }, flavor) => {
    const [a, b, bias] = [rows * cols, rows * cols, cols].map((n, i) =>
      values(seed + i, n, flavor)
    );
    for (const [hasB, hasBias] of [[false, false], [true, false], [false, true], [true, true]]) {
      const [want, got] = CPU_BACKENDS.map((kernels) => {
        const room = new CpuRoom(kernels), x = room.f32(a!), y = hasB ? room.f32(b!) : null;
        return Float64Array.of(kernels.squaredError(x, y, hasBias ? room.f32(bias!) : null));
      }) as [Float64Array, Float64Array];
      assertSameBits(got, want, `seed ${seed}, ${rows} x ${cols}, ${hasB}, ${hasBias}`);
    }
  }));
});

Deno.test("subtract() gives the same on every backend, also in place, and leaves what is behind", () => {
  fc.assert(fc.property(seeds, fc.nat(13), flavors, (seed, count, flavor) => {
    const a = values(seed, count + 1, flavor), b = values(seed + 1, count + 1, flavor);
    for (const place of ["a", "b", "out"] as const) {
      const [want, got] = CPU_BACKENDS.map((kernels) => {
        const room = new CpuRoom(kernels);
        const arrays = { a: room.f32(a), b: room.f32(b), out: room.f32(a) };
        const own = (array: Float32Array) => array.subarray(0, count);
        kernels.subtract(own(arrays[place]), own(arrays.a), own(arrays.b));
        return arrays[place].slice();
      }) as [Float32Array, Float32Array];
      assertSameBits(got, want, `seed ${seed}, ${count} values into ${place}`);
      assert(Object.is(got[count], place === "b" ? b[count] : a[count]));
    }
  }));
});

Deno.test("haveSameBytes() finds one other byte, wherever it is", () => {
  for (const kernels of CPU_BACKENDS) {
    for (const length of [0, 1, 15, 16, 63, 64, 65, 130, 200]) {
      const data = new Uint8Array(length).map((_, i) => i * 7), room = new CpuRoom(kernels);
      const a = room.u8(data), b = room.u8(data);
      assert(kernels.haveSameBytes(a, b), `${length} bytes`);
      for (let i = 0; i < length; i++) {
        b[i]! ^= 1 << i % 8;
        assert(!kernels.haveSameBytes(a, b), `${length} bytes, another one at ${i}`);
        b[i]! ^= 1 << i % 8;
      }
      assert(!kernels.haveSameBytes(a, room.u8(new Uint8Array(length + 1))), "lengths");
    }
  }
});

Deno.test("kernels of sums refuse arrays that do not fit", () => {
  for (const kernels of CPU_BACKENDS) {
    const room = new CpuRoom(kernels), x = room.f32(new Float32Array(6)), sums = room.f64([0, 0]);
    const four = room.f64([0, 0, 0, 0]), short = x.subarray(1);
    const cases: [() => void, RegExp][] = [
      [() => kernels.addColumns(four, x), /Cannot run addColumns: 6 values are no rows of 4/],
      [() => kernels.addSquares(four, x), /Cannot run addSquares: 6 values are no rows of 4/],
      [() => kernels.multiplyRows(sums, x, short), /multiplyRows: b has 5 elements, needs 6/],
      [() => kernels.multiplyRows(four, x, x), /multiplyRows: 6 values are no 4 rows/],
      [() => kernels.weighDifferences(sums, four, x, x), /weights has 4 elements, needs 3/],
      [() => kernels.squaredError(x, short, null), /squaredError: b has 5 elements, needs 6/],
      [() => kernels.squaredError(x, x, x.subarray(2)), /6 values are no rows of 4/],
      [() => kernels.subtract(short, x, x), /Cannot run subtract: arrays of 5 and 6/],
      [() => kernels.subtract(x, x, short), /Cannot run subtract: arrays of 6 and 5/],
    ];
    for (const [call, message] of cases) assert.throws(call, message);
  }
});
