import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import { Batch } from "../../../src/backend/webgpu/batch.ts";
import { hasPackedDot, recordGemmI8 } from "../../../src/backend/webgpu/record_products.ts";
import { uniform } from "../../kernels/values.ts";
import { assertSameBits } from "../../kernels/subject.ts";
import { testGpuOnly } from "../../support/gpu.ts";

for (const packed of [true, false]) {
  testGpuOnly(
    `recordGemmI8() multiplies columns of wider matrices, ${
      packed ? "with" : "without"
    } dot4I8Packed`,
    async (gpu) => {
      if (packed && !hasPackedDot()) return;
      const m = 70, n = 5, k = 67, first = 3, cols = 101;
      const next = uniform(1);
      const codes = (rows: number) =>
        Int8Array.from({ length: rows * cols }, () => Math.floor(next() * 256) - 128);
      const a = codes(m), b = codes(n);
      const part = (of: Int8Array, rows: number) =>
        Int8Array.from(
          { length: rows * k },
          (_, i) => of[Math.floor(i / k) * cols + first + i % k]!,
        );
      const want = new Int32Array(m * n), got = new Int32Array(m * n);
      referenceLinalg.gemmI8(want, part(a, m), part(b, n), m, n, k);
      const batch = new Batch("gemmI8");
      const out = batch.scratch("out", got.byteLength);
      const place = { start: first, rowStride: cols };
      recordGemmI8(batch, out, {
        a: { slot: batch.input("a", a), ...place },
        b: { slot: batch.input("b", b), ...place },
        ...{ m, n, k, packed },
      });
      batch.output(out, got);
      await batch.run(gpu);
      assertSameBits(got as never, want as never, "columns of wider matrices");
    },
  );
}
