import assert from "node:assert/strict";
import { rateLine, spokenStep } from "../../../web/page/rate.ts";

Deno.test("rateLine() says what is done, how fast, and how long the rest takes", () => {
  assert.equal(
    rateLine({ doneBytes: 1e9, totalBytes: 4e9 }, 5000),
    "1.00 GB of 4.00 GB, 200 MB/s, 15 s left",
  );
  assert.equal(rateLine({ doneBytes: 0, totalBytes: 4e9 }, 5000), "0 B of 4.00 GB");
});

Deno.test("spokenStep() names each ten percent once, and not the end", () => {
  assert.equal(spokenStep(0.05, 0), null);
  assert.equal(spokenStep(0.1, 0), 10);
  assert.equal(spokenStep(0.19, 10), null);
  assert.equal(spokenStep(0.55, 10), 50);
  assert.equal(spokenStep(1, 90), null);
});
