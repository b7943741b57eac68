/**
 * `--fit` on a real model from end to end (see `bench_real.ts`), with 1,024 rows of inputs:
 *
 * - at the size of INT8 and a tenth of the weights in 16 bits: how much less the error of embeddings is than
 *   with all layers in INT8, for three choices of the texts that are held out,
 * - at the sizes of all layers in 6 bits, and between formats: the error beside that of the best format that fits all,
 * - processor time of the choice beside that of the conversion in INT8, with data and without.
 *
 *     deno task bench --only fit [--dir FOLDER]
 */

import fs from "node:fs";
import path from "node:path";
import { run } from "./bench_modes.ts";
import {
  allTexts,
  fetchReal,
  quantsmith,
  SCOPE,
  sourceLayers,
  UnseenTexts,
  writeInputs,
} from "./bench_real.ts";
import type { Bench } from "./support/bench_run.ts";
import { median } from "./support/measure.ts";
import { MiniLm } from "./support/mini_lm.ts";

const ROWS = 1024, HELD_OUT_TEXTS = 40, SETS = 3;

/** Part of the weights that the size leaves in 16 bits, and how much less error that is to give. */
const WIDE_SHARE = 0.1, GAIN_MIN = 0.18;

/** Names and sizes of all layers in one format. */
interface Single {
  readonly format: string;
  readonly bytes: number;
  readonly w8a8: number;
}

/** Measures the choice on the model in `folder`, which needs about 300 MB. */
export async function benchFit(bench: Bench, folder: string): Promise<void> {
  const source = await fetchReal(folder), texts = allTexts(), model = new MiniLm(folder);
  const { plain, bytes } = sourceLayers(source), weights = bytes / 4;
  const inputs = path.join(folder, "inputs-fit.safetensors");
  const out = path.join(folder, "fit.safetensors");
  const gains: number[] = [];
  for (let set = 0; set < SETS; set++) {
    const at = (texts.length - HELD_OUT_TEXTS + set * HELD_OUT_TEXTS) % texts.length;
    const turned = [...texts.slice(at), ...texts.slice(0, at)];
    const unseen = new UnseenTexts(model, plain, turned.slice(0, HELD_OUT_TEXTS));
    writeInputs(inputs, model, plain, { texts: turned.slice(HELD_OUT_TEXTS), rows: ROWS });
    const convert = (flags: readonly string[]): Single => {
      quantsmith([source, out, "--force", ...SCOPE, "--calibration-data", inputs, ...flags]);
      const { w8a8 } = unseen.distances(out);
      return { format: flags.join(" "), bytes: fs.statSync(out).size, w8a8 };
    };
    const int8 = convert([]);
    const wide = convert(["--fit", String(int8.bytes + Math.floor(WIDE_SHARE * weights))]);
    gains.push(1 - wide.w8a8 / int8.w8a8);
    bench.note(
      `--fit at INT8 + 10 % in 16 bits, texts ${set + 1}: error of embeddings`,
      `${int8.w8a8.toFixed(0)} -> ${wide.w8a8.toFixed(0)}`,
    );
    if (set === 0) benchSizes(bench, convert, int8);
  }
  const least = Math.min(...gains);
  const all = gains.map((gain) => `${(100 * gain).toFixed(1)} %`).join(", ");
  bench.judge("the same: less error than INT8", all, ">= 18 % each", least >= GAIN_MIN);
  benchChoice(bench, { source, out, inputs });
  fs.rmSync(out, { force: true });
}

/** At the size of all layers in one format, and halfway to the next one. */
function benchSizes(
  bench: Bench,
  convert: (flags: readonly string[]) => Single,
  int8: Single,
): void {
  const singles = [
    ...["w4a8", "w6a8"].map((format) => ({ ...convert(["--format", format]), format })),
    { ...int8, format: "int8" },
  ];
  singles.forEach((single, k) => {
    const next = singles[k + 1];
    const sizes = next === undefined ? [single.bytes] : [
      single.bytes,
      Math.round((single.bytes + next.bytes) / 2),
    ];
    for (const size of sizes) {
      const { w8a8 } = convert(["--fit", String(size)]);
      const place = size === single.bytes ? "the size" : "halfway from the size";
      bench.judge(
        `--fit at ${place} of ${single.format}: error of embeddings`,
        w8a8.toFixed(0),
        `<= ${single.w8a8.toFixed(0)}`,
        w8a8 <= single.w8a8,
      );
    }
  });
}

/** Processor time of the choice: of a dry run with it, less one without. */
function benchChoice(
  bench: Bench,
  { source, out, inputs }: { source: string; out: string; inputs: string },
): void {
  const common = [source, "--output", out, "--force", ...SCOPE];
  for (const data of [[], ["--calibration-data", inputs]]) {
    const times = { plan: [] as number[], choice: [] as number[], conversion: [] as number[] };
    for (let round = 0; round < bench.rounds; round++) {
      times.plan.push(run([...common, ...data, "--dry-run"]).cpuSeconds);
      times.choice.push(run([...common, ...data, "--dry-run", "--fit", "70%"]).cpuSeconds);
      times.conversion.push(run([...common, ...data]).cpuSeconds);
    }
    const plan = median(times.plan);
    const choice = median(times.choice) - plan, conversion = median(times.conversion) - plan;
    bench.judge(
      `--fit ${data.length === 0 ? "without" : "with"} data: processor time of the choice`,
      `${choice.toFixed(2)} s`,
      `<= ${conversion.toFixed(2)} s, that of the conversion`,
      choice <= conversion,
    );
  }
}
