import assert from "node:assert/strict";
import {
  existsSync,
  readdirSync,
  readFileSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { InterruptedError } from "../../../src/core/errors.ts";
import { convertModel, type ConvertRequest } from "../../../src/convert/convert.ts";
import type { SessionTimes } from "../../../src/convert/resume/output_session.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../../src/plan/options.ts";
import { OutputLock } from "../../../src/safetensors/output_lock.ts";
import { writeCalibratedModel } from "../../support/calibrated_model.ts";
import { temporaryFolder } from "../../support/model_files.ts";
import { WORKER_URL } from "../../support/encode.ts";

const TIMES = { saveMs: 1, touchMs: 5, watchMs: 100 };

interface Place {
  readonly folder: string;
  readonly input: string;
  readonly output: string;
}

type More = Partial<ConvertRequest> & {
  readonly changes?: Partial<ConvertOptions>;
  readonly times?: SessionTimes;
};

function convert({ input, output }: Place, { changes, times = TIMES, ...request }: More = {}) {
  return convertModel({
    input,
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...changes },
    workerUrl: WORKER_URL,
    workers: 1,
    ...request,
  }, times);
}

/** Converts and interrupts when `layers` are done; something is in the journal then. */
async function interrupt(place: Place, layers: number, more: More = {}): Promise<unknown> {
  const controller = new AbortController();
  let count = 0;
  try {
    await convert(place, {
      resume: true,
      signal: controller.signal,
      onLayer: () => void (++count === layers && controller.abort()),
      ...more,
    });
  } catch (error) {
    return error;
  }
  return assert.fail("the run was too fast to be interrupted");
}

function left({ folder }: Place): string[] {
  return readdirSync(folder).filter((name) => name.startsWith(".")).sort();
}

async function withModel(body: (place: Place) => Promise<void>): Promise<void> {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 20, rows: 2048 });
  await body({ folder: folder.path, input, output: join(folder.path, "out.safetensors") });
}

const LEFT = [".out.safetensors.journal", ".out.safetensors.partial"];

Deno.test("convertModel() with resume keeps what was finished when it is interrupted, and continues", async () => {
  await withModel(async (place) => {
    const whole = await convert({ ...place, output: join(place.folder, "whole.safetensors") });
    const error = await interrupt(place, 8);
    assert(error instanceof InterruptedError && error.message.includes("--resume"), `${error}`);
    assert.deepEqual(left(place), LEFT);
    let resumed: number | null = null;
    let announced = 0;
    const result = await convert(place, {
      resume: true,
      onPlan: (start) => resumed = start.resumed,
      onLayer: () => announced++,
    });
    assert(resumed !== null && resumed >= 0.3 && resumed < 1, `${resumed}`);
    assert.equal(announced, 20);
    assert.deepEqual(result.layers, whole.layers);
    assert(readFileSync(place.output).equals(readFileSync(whole.output)));
    assert.deepEqual(left(place), []);
  });
});

Deno.test("convertModel() with resume reports of compensated layers the same as an uninterrupted run", async () => {
  using folder = temporaryFolder();
  const { input, calibration } = writeCalibratedModel(folder.path, { layers: 8, rows: 512 });
  const place = { folder: folder.path, input, output: join(folder.path, "out.safetensors") };
  const more = { changes: { calibrationPath: calibration } };
  const whole = await convert({ ...place, output: join(folder.path, "whole.safetensors") }, more);
  const rows = whole.layers.map(({ compensated }) => compensated?.toNearest ?? 0);
  assert(rows[0]! > 0 && rows[1] === 0, `${rows}`);
  await interrupt(place, 3, more);
  let resumed: number | null = null;
  const result = await convert(place, {
    ...more,
    resume: true,
    onPlan: (start) => resumed = start.resumed,
  });
  assert(resumed !== null && resumed > 0, `${resumed}`);
  assert.deepEqual(result.layers, whole.layers);
});

Deno.test("convertModel() resumes by what the journal says, whatever else the partial file holds", async () => {
  await withModel(async (place) => {
    const whole = await convert({ ...place, output: join(place.folder, "whole.safetensors") });
    const journal = join(place.folder, LEFT[0]!), partial = join(place.folder, LEFT[1]!);
    await interrupt(place, 8);
    const size = readFileSync(journal).length;
    // A crash in the middle of a record: its work and that of the records after it was not finished.
    for (const share of [0.97, 0.6]) {
      truncateSync(journal, Math.floor(size * share));
      await interrupt(place, 2 + Math.floor(8 * share));
    }
    assert.deepEqual(left(place), LEFT);
    // Nothing that is not in the journal may be trusted.
    truncateSync(journal, 0);
    writeFileSync(partial, readFileSync(partial).fill(0xaa));
    let resumed: number | null = 0;
    const result = await convert(place, {
      resume: true,
      onPlan: (start) => resumed = start.resumed,
    });
    assert.equal(resumed, null);
    assert.deepEqual(result.layers, whole.layers);
    assert(readFileSync(place.output).equals(readFileSync(whole.output)));
  });
});

Deno.test("convertModel() refuses to resume what was made otherwise, and starts anew with force", async () => {
  await withModel(async (place) => {
    await interrupt(place, 5);
    const off = { changes: { scaleSearch: "off" } } as const;
    const before = readFileSync(join(place.folder, LEFT[0]!));
    await assert.rejects(
      convert(place, { resume: true, ...off }),
      /Cannot resume .*scaleSearch was null, is "off"; `--force` starts anew/,
    );
    await assert.rejects(convert(place, { resume: true, program: "other" }), /made by/);
    const later = new Date(Date.now() + 5000);
    utimesSync(place.input, later, later);
    await assert.rejects(convert(place, { resume: true }), /model.safetensors has changed since/);
    assert.deepEqual(left(place), LEFT);
    assert(readFileSync(join(place.folder, LEFT[0]!)).equals(before));
    let notes: readonly string[] = [];
    await convert(place, {
      resume: true,
      force: true,
      ...off,
      onPlan: (start) => notes = start.notes,
    });
    assert.match(notes.join(), /is replaced/);
    const fresh = join(place.folder, "fresh.safetensors");
    await convert({ ...place, output: fresh }, off);
    assert(readFileSync(place.output).equals(readFileSync(fresh)));
    assert.deepEqual(left(place), []);
  });
});

Deno.test("convertModel() without resume replaces what was left, says so, and leaves nothing itself", async () => {
  await withModel(async (place) => {
    await interrupt(place, 5);
    let notes: readonly string[] = [];
    const error = await interrupt(place, 5, {
      resume: false,
      onPlan: (start) => notes = start.notes,
    });
    assert(error instanceof InterruptedError && error.message.includes("no output"), `${error}`);
    assert.match(
      notes.join(),
      /discarding the partial output of an unfinished run \(`--resume` continues it\)/,
    );
    assert.deepEqual(left(place), []);
    assert(!existsSync(place.output));
  });
});

Deno.test("convertModel() refuses an output that another process is writing", async () => {
  await withModel(async (place) => {
    const path = join(place.folder, ".out.safetensors.lock");
    const other = await OutputLock.take(path, place.output, TIMES);
    try {
      const request: More = { times: { ...TIMES, watchMs: 5000 } };
      await assert.rejects(convert(place, request), /another process is writing it/);
    } finally {
      other.release();
    }
    assert.deepEqual(left(place), []);
  });
});

Deno.test("convertModel() keeps nothing to resume if the input cannot be converted", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 12, rows: 2048 });
  const bytes = readFileSync(input);
  // The last weights become NaN: F32 biases follow them in front, so only BF16 is hit.
  bytes.fill(0xff, bytes.length - 2048 * 256);
  writeFileSync(input, bytes);
  const place = { folder: folder.path, input, output: join(folder.path, "out.safetensors") };
  await assert.rejects(convert(place, { resume: true }), /NaN/);
  assert.deepEqual(left(place), []);
});
