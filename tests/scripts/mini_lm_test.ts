import assert from "node:assert/strict";
import { applyLinear } from "../../scripts/support/mini_lm.ts";
import { realTable } from "../../scripts/bench_real.ts";
import { fetchFromWheel, UnavailableError } from "../../scripts/support/pypi.ts";
import { createServer } from "node:http";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { AddressInfo } from "node:net";
import { createHash } from "node:crypto";
import process from "node:process";
import { zipSync } from "fflate";
import { temporaryFolder } from "../support/model_files.ts";
import { uniform } from "../kernels/values.ts";

Deno.test("applyLinear() computes x Wᵀ + b", () => {
  const tokens = 5, rows = 7, cols = 12, next = uniform(1);
  const random = (n: number) => Float32Array.from({ length: n }, () => next() - 0.5);
  const x = random(tokens * cols), weight = random(rows * cols), bias = random(rows);
  const y = applyLinear(x, { rows, cols, weight, bias });
  assert.equal(y.length, tokens * rows);
  for (let t = 0; t < tokens; t++) {
    for (let r = 0; r < rows; r++) {
      let want = bias[r]!;
      for (let k = 0; k < cols; k++) want += x[t * cols + k]! * weight[r * cols + k]!;
      assert.ok(Math.abs(y[t * rows + r]! - want) < 1e-5);
    }
  }
});

Deno.test("realTable() doubles the share of F32: sizes are relative to BF16", () => {
  const [, row] = realTable([{
    mode: "m",
    flags: "",
    w8a16: 1.4,
    w8a8: 2.6,
    share: 0.25,
    reported: 0.0071,
    fresh: null,
  }]);
  assert.deepEqual(row, ["m", "", "50 %", "1", "3", "0.71 %", ""]);
});

Deno.test("fetchFromWheel() unpacks what is asked for, and says what cannot be had", async () => {
  using folder = temporaryFolder();
  const wheel = zipSync({
    "pkg/model/a.txt": new TextEncoder().encode("A"),
    "pkg/b.txt": new Uint8Array(1),
  });
  let hash = createHash("sha256").update(wheel).digest("hex");
  const server = createServer((request, response) => {
    const host = `http://${request.headers.host}`;
    if (request.url === "/simple/p/") {
      const files = [{ filename: "p.whl", url: `${host}/p.whl`, hashes: { sha256: hash } }];
      response.end(JSON.stringify({ files }));
    } else if (request.url === "/p.whl") response.end(wheel);
    else response.writeHead(404).end();
  }).listen(0);
  await new Promise((resolve) => server.once("listening", resolve));
  const index = `http://127.0.0.1:${(server.address() as AddressInfo).port}/simple/`;
  const fetchFrom = (project: string, members: string[], from = index) =>
    withIndex(
      from,
      () => fetchFromWheel({ project, wheel: "p.whl", members, folder: folder.path }),
    );
  try {
    await assert.rejects(fetchFrom("none", ["a.txt"]), {
      name: "UnavailableError",
      message: /404/,
    });
    await assert.rejects(fetchFrom("p", ["c.txt"]), { message: /does not hold c\.txt/ });
    const right = hash;
    hash = "0";
    await assert.rejects(fetchFrom("p", ["a.txt"]), { message: /has the hash/ });
    hash = right;
    await fetchFrom("p", ["a.txt"]);
    assert.equal(readFileSync(join(folder.path, "a.txt"), "utf8"), "A");
    assert.ok(!existsSync(join(folder.path, "b.txt")));
    await assert.rejects(fetchFrom("p", ["z.txt"], "http://127.0.0.1:1"), UnavailableError);
  } finally {
    server.close();
  }
});

/** Calls `body` while `PIP_INDEX_URL` is `index`. */
async function withIndex(index: string, body: () => Promise<void>): Promise<void> {
  const before = process.env["PIP_INDEX_URL"];
  process.env["PIP_INDEX_URL"] = index;
  try {
    await body();
  } finally {
    if (before === undefined) delete process.env["PIP_INDEX_URL"];
    else process.env["PIP_INDEX_URL"] = before;
  }
}
