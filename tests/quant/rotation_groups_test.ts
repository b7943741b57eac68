import { strictEqual, throws } from "node:assert/strict";
import fc from "fast-check";
import { convrotGroupFor, noRotationGroup } from "../../src/quant/rotation_groups.ts";

Deno.test("convrotGroupFor() gives the largest of 256, 64 and 16 that divides, or none", () => {
  strictEqual(convrotGroupFor(4096, "auto"), 256);
  strictEqual(convrotGroupFor(320, "auto"), 64);
  strictEqual(convrotGroupFor(2544, "auto"), 16);
  strictEqual(convrotGroupFor(3420, "auto"), null);
});

Deno.test("convrotGroupFor() gives a wanted power of 4 if it divides, and refuses other sizes", () => {
  strictEqual(convrotGroupFor(4096, 1024), 1024);
  strictEqual(convrotGroupFor(3420, 4), 4);
  strictEqual(convrotGroupFor(320, 256), null);
  for (const size of [0, 1, 2, 8, 128, -4, 2.5, NaN]) {
    throws(() => convrotGroupFor(4096, size), RangeError, String(size));
  }
});

Deno.test("convrotGroupFor() never gives a size that does not divide", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 65536 }), (cols) => {
    const size = convrotGroupFor(cols, "auto");
    strictEqual(size === null, cols % 16 !== 0);
    if (size !== null) strictEqual(cols % size, 0);
  }));
});

Deno.test("noRotationGroup() names the groups that auto tries", () => {
  strictEqual(noRotationGroup(3420), "no rotation group (256, 64, 16) divides 3420 columns");
});
