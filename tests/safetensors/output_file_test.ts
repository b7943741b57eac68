import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import process from "node:process";
import { UnsupportedError } from "../../src/core/errors.ts";
import { checkOutputPath, OutputFile, refuseSameFile } from "../../src/safetensors/output_file.ts";
import { TempFolder } from "../support/header_fixtures.ts";

const HEADER = Uint8Array.of(9, 8, 7);
const OPTIONS = { header: HEADER, totalBytes: 10, force: false };

Deno.test("OutputFile appears under its name on commit(), with all that was written", () => {
  using folder = new TempFolder();
  const path = join(folder.path, "out.safetensors");
  using output = OutputFile.create(path, OPTIONS);
  assert.equal(output.partialPath, join(folder.path, `.out.safetensors.${process.pid}.partial`));
  output.write(Uint8Array.of(1, 2), 8);
  assert.deepEqual(readdirSync(folder.path), [`.out.safetensors.${process.pid}.partial`]);
  output.commit();
  assert.deepEqual([...readFileSync(path)], [9, 8, 7, 0, 0, 0, 0, 0, 1, 2]);
  assert.deepEqual(readdirSync(folder.path), ["out.safetensors"]);
});

Deno.test("OutputFile leaves nothing behind when it is disposed uncommitted", () => {
  using folder = new TempFolder();
  const path = join(folder.path, "out.safetensors");
  assert.throws(() => {
    using output = OutputFile.create(path, OPTIONS);
    output.write(Uint8Array.of(1), 5);
    throw new Error("something failed");
  }, /something failed/);
  assert.deepEqual(readdirSync(folder.path), []);
});

Deno.test("OutputFile.discard() is idempotent, and does nothing after commit()", () => {
  using folder = new TempFolder();
  const path = join(folder.path, "out.safetensors");
  const output = OutputFile.create(path, OPTIONS);
  output.discard();
  output.discard();
  assert.deepEqual(readdirSync(folder.path), []);
  assert.throws(() => output.commit(), /closed already/);
  assert.throws(() => output.write(HEADER, 0), /closed already/);
  const second = OutputFile.create(path, OPTIONS);
  second.commit();
  second.discard();
  assert(existsSync(path));
});

Deno.test("OutputFile.discard() does not mind that the partial file is gone", () => {
  using folder = new TempFolder();
  const output = OutputFile.create(join(folder.path, "out"), OPTIONS);
  unlinkSync(output.partialPath);
  output.discard();
});

Deno.test("OutputFile.write() refuses positions outside the file", () => {
  using folder = new TempFolder();
  using output = OutputFile.create(join(folder.path, "out"), OPTIONS);
  assert.throws(() => output.write(new Uint8Array(3), 8), /bytes 8 to 11 are not within its 10/);
  assert.throws(() => output.write(new Uint8Array(1), -1), RangeError);
  assert.throws(() => output.write(new Uint8Array(1), NaN), RangeError);
});

Deno.test("OutputFile.create() refuses an existing output without force, and leaves it as it is", () => {
  using folder = new TempFolder();
  const path = folder.write("out.safetensors", "old");
  assert.throws(() => OutputFile.create(path, OPTIONS), (error) => {
    assert(error instanceof UnsupportedError);
    assert.match(error.message, /exists; `--force` replaces it/);
    return true;
  });
  assert.deepEqual(readdirSync(folder.path), ["out.safetensors"]);
});

Deno.test("OutputFile with force keeps the old file until commit()", () => {
  using folder = new TempFolder();
  const path = folder.write("out.safetensors", "old");
  OutputFile.create(path, { ...OPTIONS, force: true }).discard();
  assert.equal(readFileSync(path, "utf8"), "old");
  const output = OutputFile.create(path, { ...OPTIONS, force: true });
  assert.equal(readFileSync(path, "utf8"), "old");
  output.commit();
  assert.equal(readFileSync(path).length, 10);
});

Deno.test("OutputFile.commit() does not replace a file that has come up meanwhile", () => {
  using folder = new TempFolder();
  const path = join(folder.path, "out.safetensors");
  {
    using output = OutputFile.create(path, OPTIONS);
    writeFileSync(path, "another's");
    assert.throws(() => output.commit(), /has come up meanwhile/);
  }
  assert.equal(readFileSync(path, "utf8"), "another's");
  assert.deepEqual(readdirSync(folder.path), ["out.safetensors"]);
});

Deno.test("OutputFile.create() leaves the partial file of another run alone", () => {
  using folder = new TempFolder();
  const path = join(folder.path, "out");
  const other = folder.write(`.out.${process.pid}.partial`, "another's");
  using output = OutputFile.create(path, OPTIONS);
  assert.notEqual(output.partialPath, other);
  output.commit();
  assert.equal(readFileSync(other, "utf8"), "another's");
});

Deno.test("OutputFile.create() refuses what the disk has no room for, before any work", () => {
  using folder = new TempFolder();
  assert.throws(
    () => OutputFile.create(join(folder.path, "out"), { ...OPTIONS, totalBytes: 2 ** 52 }),
    /needs 4503599627370496 bytes \(4503599\.63 GB\), the disk has \d+ free/,
  );
  assert.deepEqual(readdirSync(folder.path), []);
});

Deno.test("OutputFile.create() leaves nothing behind if the header does not fit", () => {
  using folder = new TempFolder();
  assert.throws(() => OutputFile.create(join(folder.path, "out"), { ...OPTIONS, totalBytes: 2 }));
  assert.deepEqual(readdirSync(folder.path), []);
});

Deno.test("OutputFile.create() takes names as long as the file system does", () => {
  using folder = new TempFolder();
  const path = join(folder.path, "ü".repeat(127));
  OutputFile.create(path, OPTIONS).commit();
  assert(existsSync(path));
});

Deno.test("checkOutputPath() refuses paths that cannot become a file", () => {
  using folder = new TempFolder();
  const file = folder.write("file", "");
  const options = { force: true };
  const cases: [string, RegExp][] = [
    [folder.path, /it is a folder; name a file in it/],
    [join(folder.path, "no", "out"), /its folder ".*no": no such file or folder/],
    [join(file, "out"), /its folder ".*file": it is not a folder/],
    [join(folder.path, "new") + "/", /names no file/],
    ["", /names no file/],
    ["/dev/null", /device or a pipe/],
  ];
  for (const [path, message] of cases) {
    assert.throws(() => checkOutputPath(path, options), message, path);
  }
  symlinkSync(folder.path, join(folder.path, "link"));
  assert.throws(() => checkOutputPath(join(folder.path, "link"), options), /it is a folder/);
});

Deno.test("checkOutputPath() counts a link that points nowhere as existing", () => {
  using folder = new TempFolder();
  const path = join(folder.path, "link");
  symlinkSync(join(folder.path, "nowhere"), path);
  assert.throws(() => checkOutputPath(path, { force: false }), UnsupportedError);
  checkOutputPath(path, { force: true });
});

Deno.test({
  name: "checkOutputPath() refuses a folder that may not be written",
  ignore: process.getuid?.() === 0, // root may write anywhere
  fn() {
    using folder = new TempFolder();
    const closed = join(folder.path, "closed");
    mkdirSync(closed);
    chmodSync(closed, 0o555);
    assert.throws(
      () => checkOutputPath(join(closed, "out"), { force: false }),
      /permission denied/,
    );
  },
});

Deno.test("refuseSameFile() refuses the same path, however spelled, and other names of the file", () => {
  using folder = new TempFolder();
  const input = folder.write("in.safetensors", "x");
  const other = folder.write("other.safetensors", "x");
  symlinkSync(input, join(folder.path, "soft"));
  linkSync(input, join(folder.path, "hard"));
  const same = [
    input,
    join(folder.path, "no", "..", "in.safetensors"),
    relative(process.cwd(), input),
    join(folder.path, "soft"),
    join(folder.path, "hard"),
  ];
  for (const output of same) {
    assert.throws(() => refuseSameFile(output, [other, input]), (error) => {
      assert(error instanceof UnsupportedError);
      assert.match(error.message, /it is the input ".*in.safetensors"; name another output/);
      return true;
    });
  }
  refuseSameFile(join(folder.path, "new"), [input, other]);
  refuseSameFile(other, [input]);
});
