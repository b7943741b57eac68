import assert from "node:assert/strict";
import { countText } from "../../src/core/count_text.ts";

Deno.test("countText() separates thousands as Intl does", () => {
  for (const count of [0, 7, 999, 1000, 45120, 100000, 999999, 1234567, 2 ** 40]) {
    assert.equal(countText(count), count.toLocaleString("en-US"));
  }
});
