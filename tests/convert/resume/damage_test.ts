import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InterruptedError } from "../../../src/core/errors.ts";
import { convertModel, type ConvertRequest } from "../../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../../src/plan/options.ts";
import { writeCalibratedModel } from "../../support/calibrated_model.ts";
import { temporaryFolder } from "../../support/model_files.ts";
import { WORKER_URL } from "../../support/encode.ts";

const TIMES = { saveMs: 1, touchMs: 5, watchMs: 100 };

/** Places of a file whose bits are flipped, as shares of its length. */
const PLACES = [0.02, 0.11, 0.23, 0.38, 0.5, 0.64, 0.77, 0.9, 0.999];

/** Fewer, for methods that take longer. */
const FEW_PLACES = [0.05, 0.3, 0.6, 0.95];

interface Case {
  readonly input: string;
  readonly changes: Partial<ConvertOptions>;
}

function convert(folder: string, { input, changes }: Case, more: Partial<ConvertRequest> = {}) {
  return convertModel({
    input,
    output: join(folder, "out.safetensors"),
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...changes },
    workerUrl: WORKER_URL,
    workers: 2,
    resume: true,
    measure: true,
    ...more,
  }, TIMES);
}

/** Interrupts a conversion when `layers` are done. */
async function interrupt(folder: string, given: Case, layers: number): Promise<void> {
  const controller = new AbortController();
  let count = 0;
  const run = convert(folder, given, {
    signal: controller.signal,
    onLayer: () => void (++count === layers && controller.abort()),
  });
  await assert.rejects(run, InterruptedError);
}

/** The files of `folder`, by name. */
function filesIn(folder: string): Map<string, Uint8Array> {
  return new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));
}

interface Resumed {
  readonly files: Map<string, Uint8Array>;
  readonly share: number | null;
  readonly notes: string;
  readonly layers: unknown;
}

async function resume(folder: string, given: Case): Promise<Resumed> {
  let share: number | null = null, notes = "";
  const { layers } = await convert(folder, given, {
    onPlan: (start) => {
      share = start.resumed;
      notes = start.notes.join("\n");
    },
  });
  return { files: filesIn(folder), share, notes, layers };
}

/** Interrupts, flips a bit at every place of every leftover, one at a time, and resumes each. */
async function flipAndResume(
  given: (folder: string) => Case,
  { layers, places }: { layers: number; places: readonly number[] },
): Promise<{ flips: number; found: number }> {
  using folder = temporaryFolder();
  const own = (name: string) => {
    mkdirSync(join(folder.path, name));
    return join(folder.path, name);
  };
  const its = given(folder.path);
  const whole = await resume(own("whole"), its);
  const cut = own("cut");
  await interrupt(cut, its, layers);
  const left = filesIn(cut);
  const again = (name: string) => {
    const copy = own(name);
    for (const file of left.keys()) copyFileSync(join(cut, file), join(copy, file));
    return copy;
  };
  const untouched = await resume(again("untouched"), its);
  assert(untouched.share !== null && untouched.share > 0.05, `${untouched.share} was resumed`);
  assert.doesNotMatch(untouched.notes, /done again/);
  assert.deepEqual(untouched.files, whole.files);
  let flips = 0, found = 0;
  for (const [name, bytes] of left) {
    for (const place of places) {
      const copy = again(`${name}-${place}`);
      const damaged = Uint8Array.from(bytes);
      damaged[Math.floor(bytes.length * place)]! ^= 1 << (flips % 8);
      writeFileSync(join(copy, name), damaged);
      const end = await resume(copy, its);
      assert.deepEqual(end.layers, whole.layers, `${name} at ${place}`);
      assert.deepEqual([...end.files.keys()], [...whole.files.keys()]);
      for (const [file, expected] of whole.files) {
        assert(Buffer.from(end.files.get(file)!).equals(expected), `${name} at ${place}: ${file}`);
      }
      flips++;
      if (/pieces of work are done again/.test(end.notes)) found++;
      Deno.removeSync(copy, { recursive: true });
    }
  }
  return { flips, found };
}

Deno.test("convertModel() resumed after bits flipped in what was left writes what an uninterrupted run does", async () => {
  const { flips, found } = await flipAndResume((folder) => {
    const { input } = writeCalibratedModel(folder, { layers: 12, rows: 1024 });
    return { input, changes: {} };
  }, { layers: 9, places: PLACES });
  assert.equal(flips, 2 * PLACES.length);
  assert(found >= 5, `${found} of ${PLACES.length} flips in the partial file were found`);
});

Deno.test("convertModel() resumed with GPTQ, biases and shards after bits flipped writes what an uninterrupted run does", async () => {
  const { found } = await flipAndResume((folder) => {
    const { input, calibration } = writeCalibratedModel(folder, { layers: 5, rows: 512 });
    const changes = { calibrationPath: calibration, staticActivations: true, shardBytes: 400_000 };
    return { input, changes };
  }, { layers: 4, places: FEW_PLACES });
  assert(found > 0);
});

Deno.test("convertModel() resumed with learned rounding in blocks after bits flipped writes what an uninterrupted run does", async () => {
  const { found } = await flipAndResume((folder) => {
    const { input } = writeCalibratedModel(folder, { layers: 5, rows: 256 });
    return { input, changes: { method: "original", scaling: "block", blockSize: 64 } };
  }, { layers: 4, places: FEW_PLACES });
  assert(found > 0);
});
