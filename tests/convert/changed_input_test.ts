import assert from "node:assert/strict";
import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { FileError } from "../../src/safetensors/io_error.ts";
import { ChangedInputError } from "../../src/safetensors/input_watch.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);
const SIZE = 64;
const VALUES = Float32Array.from({ length: SIZE * SIZE }, (_, i) => Math.sin(i));

interface Files {
  readonly model: string;
  readonly lora: string;
  readonly calibration: string;
}

function writeFiles(folder: string): Files {
  const model = join(folder, "in.safetensors"), lora = join(folder, "lora.safetensors");
  const calibration = join(folder, "data.safetensors");
  writeModel(model, [
    tensorOf("blocks.0.q.weight", "F32", [SIZE, SIZE], VALUES),
    tensorOf("blocks.1.q.weight", "F32", [SIZE, SIZE], VALUES),
  ]);
  writeModel(lora, [
    tensorOf("blocks.0.q.lora_A.weight", "F32", [2, SIZE], VALUES.subarray(0, 2 * SIZE)),
    tensorOf("blocks.0.q.lora_B.weight", "F32", [SIZE, 2], VALUES.subarray(0, 2 * SIZE)),
  ]);
  writeModel(calibration, [
    tensorOf("blocks.0.q.activations", "F32", [8, SIZE], VALUES.subarray(0, 8 * SIZE)),
  ]);
  return { model, lora, calibration };
}

/** Changes the last byte in place. */
function writeInto(path: string): void {
  const fd = openSync(path, "r+");
  writeSync(fd, Uint8Array.of(63), 0, 1, readFileSync(path).length - 1);
  closeSync(fd);
}

const CHANGES: readonly {
  readonly name: string;
  readonly words: RegExp;
  change(files: Files): void;
}[] = [
  {
    name: "written to",
    words: /in\.safetensors.*it was written to/,
    change: (f) => writeInto(f.model),
  },
  {
    name: "replaced by a file of the same size and time",
    words: /it was replaced by another file/,
    change: ({ model }) => {
      copyFileSync(model, `${model}.new`);
      utimesSync(`${model}.new`, 1, 1);
      renameSync(`${model}.new`, model);
    },
  },
  {
    name: "grown",
    words: /its size went from \d+ to \d+ bytes/,
    change: ({ model }) => writeFileSync(model, "more", { flag: "a" }),
  },
  {
    name: "removed",
    words: /Cannot (open|read) ".*in\.safetensors": no such file or folder/,
    change: ({ model }) => rmSync(model),
  },
  {
    name: "truncated",
    words: /in\.safetensors": its size went from \d+ to \d+ bytes while it was read/,
    change: ({ model }) => truncateSync(model, readFileSync(model).length - 4),
  },
  {
    name: "a LoRA that is written to",
    words: /lora\.safetensors.*written to/,
    change: (f) => writeInto(f.lora),
  },
  {
    name: "calibration data that is written to",
    words: /data\.safetensors.*written to/,
    change: (f) => writeInto(f.calibration),
  },
];

for (const { name, words, change } of CHANGES) {
  Deno.test(`convertModel() gives no output of an input that changes while it is read: ${name}`, async () => {
    using folder = temporaryFolder();
    const files = writeFiles(folder.path), output = join(folder.path, "out.safetensors");
    writeFileSync(output, "the old file");
    const run = convertModel({
      input: files.model,
      output,
      force: true,
      options: {
        ...DEFAULT_CONVERT_OPTIONS,
        preset: { kind: "none" },
        calibrationPath: files.calibration,
        merge: { paths: [files.lora], scale: 1, dampen: true, strict: false },
      },
      workerUrl: WORKER,
      workers: 1,
      onPlan: () => change(files),
    });
    await assert.rejects(run, words);
    assert.equal(readFileSync(output, "utf8"), "the old file");
    const left = readdirSync(folder.path).filter((file) => file.startsWith("."));
    if (name !== "removed" && name !== "truncated") assert.deepEqual(left, []);
  });
}

Deno.test("convertModel() says of a changed input which class of error it is, and which file", async () => {
  using folder = temporaryFolder();
  const files = writeFiles(folder.path), output = join(folder.path, "out.safetensors");
  const run = convertModel({
    input: files.model,
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } },
    workerUrl: WORKER,
    workers: 1,
    onPlan: () => writeInto(files.model),
  });
  await assert.rejects(
    run,
    (error) => error instanceof ChangedInputError && error.path === files.model,
  );
  assert.ok(!existsSync(output));
});

Deno.test("convertModel() says in words that a worker cannot write the output, with the code", async () => {
  using folder = temporaryFolder();
  const { model } = writeFiles(folder.path), output = join(folder.path, "out.safetensors");
  const run = convertModel({
    input: model,
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } },
    workerUrl: WORKER,
    workers: 2,
    onPlan: () => rmSync(join(folder.path, ".out.safetensors.partial")),
  });
  await assert.rejects(run, (error) => {
    assert.ok(error instanceof FileError, `${error}`);
    assert.equal(error.message, `Cannot write ${JSON.stringify(output)}: no such file or folder`);
    return error.code === "ENOENT";
  });
});

Deno.test("a removed model is an error of its class, with the code of the operating system", async () => {
  using folder = temporaryFolder();
  const { model } = writeFiles(folder.path);
  const run = convertModel({
    input: model,
    output: join(folder.path, "out.safetensors"),
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } },
    workerUrl: WORKER,
    workers: 2,
    onPlan: () => rmSync(model),
  });
  await assert.rejects(run, (error) => error instanceof FileError && error.code === "ENOENT");
});
