import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FormatError, UnsupportedError } from "../../../src/core/errors.ts";
import { plainError } from "../../../src/core/plain_error.ts";
import { RemoteError } from "../../../src/remote/remote_error.ts";
import { atTensor, reportedError } from "../../../src/run/workers/error_classes.ts";
import { ChangedInputError } from "../../../src/safetensors/input_watch.ts";
import { FileError } from "../../../src/safetensors/io_error.ts";

const SRC = fileURLToPath(new URL("../../../src", import.meta.url));

/** Those that no thread reports: they are caught where they are thrown, or made by the main thread. */
const STAY = ["BadStatisticError", "TeamAbortedError", "InterruptedRead", "NonFiniteError"];

Deno.test("reportedError() knows every class of errors that the source has", () => {
  const files = readdirSync(SRC, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"));
  const names = files.flatMap((name) =>
    [...readFileSync(join(SRC, name), "utf8").matchAll(/^export class (\w+) extends \w*Error\b/gm)]
      .map(([, found]) => found!)
  );
  assert.ok(names.length > 10);
  const missing = names.filter((name) => {
    const plain = { name, message: "", stack: null, fields: {}, cause: null };
    return reportedError(plain).constructor.name !== name;
  });
  assert.deepEqual(missing.sort(), STAY.toSorted());
});

Deno.test("reportedError() keeps what is known of a file or a server", () => {
  const cause = Object.assign(new Error("ENOSPC: write"), { code: "ENOSPC" });
  const full = reportedError(plainError(new FileError('Cannot write "o"', cause)));
  assert.ok(full instanceof FileError);
  assert.equal(full.message, 'Cannot write "o": the disk is full');
  assert.deepEqual([full.code, full.reason], ["ENOSPC", "the disk is full"]);
  assert.equal((full.cause as NodeJS.ErrnoException).code, "ENOSPC");

  const fault = { name: "https://h/m", offsetBytes: 7, rule: "it is gone", isTemporary: false };
  const remote = reportedError(plainError(new RemoteError(fault)));
  assert.ok(remote instanceof RemoteError);
  assert.deepEqual(remote.fault, fault);

  const changed = reportedError(plainError(new ChangedInputError("m", "it was written to")));
  assert.ok(changed instanceof ChangedInputError);
  assert.equal(changed.path, "m");
});

Deno.test("atTensor() names the tensor if the message does not, and keeps the class", () => {
  const said = (error: Error) => {
    const named = atTensor(error, "a.weight");
    assert.equal(named, error);
    return named.message;
  };
  assert.equal(
    said(new FileError('Cannot read "m"', "the disk reports an error")),
    'Cannot process tensor "a.weight": Cannot read "m": the disk reports an error',
  );
  assert.match(said(new TypeError("odd")), /^Cannot process tensor "a\.weight": odd$/);
  for (
    const complete of [
      new UnsupportedError('Cannot take tensor "a.weight"'),
      new FormatError("a rule", { path: "c", tensor: "a.hessian" }),
      new ChangedInputError("m", "it was written to"),
    ]
  ) {
    const { message } = complete;
    assert.equal(said(complete), message);
  }
});
