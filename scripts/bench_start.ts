/** Benches of starting: the first layer of a file with many, and headers of a million tensors. */

import fs from "node:fs";
import path from "node:path";
import { writeSyntheticModel } from "../tests/support/synthetic_model.ts";
import { weight } from "../tests/support/synthetic_shapes.ts";
import { type Bench, convert, quantsmith, seconds } from "./support/bench_run.ts";
import { median } from "./support/measure.ts";

/** The targets. */
const LIMITS = {
  firstLayerSeconds: 0.2,
  headerSeconds: 3,
  headerMegabytes: 300,
  layersMegabytes: 400,
};

/** Time from the start of the process to the first layer of a model of 1,000. */
export async function benchFirstLayer(bench: Bench, folder: string): Promise<void> {
  const model = path.join(folder, "quantsmith-bench-layers.safetensors");
  const out = `${model}.out.safetensors`;
  const layers = Array.from({ length: 1000 }, (_, i) => weight(`blocks.${i}.linear`, 512, 512));
  writeSyntheticModel(model, layers);
  try {
    const times: number[] = [];
    for (let k = 0; k < 9; k++) {
      const isFirst = (line: string) => line.startsWith('{"event":"tensor"');
      const args = [model, out, "--preset", "none", "--force", "--json", "--workers", "2"];
      times.push((await quantsmith(args, { isFirst })).firstSeconds);
    }
    const limit = LIMITS.firstLayerSeconds;
    bench.judge(
      "first of 1,000 layers done, from the start of the process: median of 9",
      seconds(times),
      `<= ${limit} s`,
      median(times) <= limit,
    );
  } finally {
    for (const file of [model, out]) fs.rmSync(file, { force: true });
  }
}

/** `inspect` of a file with a million tensors in its header, near the longest that the format allows. */
export async function benchHeaders(bench: Bench, folder: string): Promise<void> {
  const model = path.join(folder, "quantsmith-bench-headers.safetensors");
  writeHeader(model, 1_000_000);
  try {
    const runs = [];
    for (let round = 0; round < bench.rounds; round++) {
      runs.push(await quantsmith(["inspect", model], { memory: true }));
    }
    const times = runs.map((run) => run.seconds), limit = LIMITS.headerSeconds;
    bench.judge(
      "inspect of 10^6 tensors",
      seconds(times),
      `<= ${limit} s`,
      median(times) <= limit,
    );
    const peak = Math.max(...runs.map(({ peakBytes }) => peakBytes)) / 1e6;
    bench.judge(
      "inspect of 10^6 tensors: peak memory",
      `${peak.toFixed(0)} MB`,
      `<= ${LIMITS.headerMegabytes} MB`,
      peak <= LIMITS.headerMegabytes,
    );
  } finally {
    fs.rmSync(model, { force: true });
  }
}

/** One conversion of a hundred thousand small layers: all that a run holds for each of them. */
export async function benchManyLayers(bench: Bench, folder: string): Promise<void> {
  const model = path.join(folder, "quantsmith-bench-many.safetensors");
  const layers = Array.from({ length: 100_000 }, (_, i) => weight(`blocks.${i}.linear`, 16, 64));
  writeSyntheticModel(model, layers);
  try {
    const { seconds, peakBytes } = await convert(model, ["--preset", "none"]);
    bench.note("default mode of 10^5 layers of 16 x 64", `${seconds.toFixed(1)} s`);
    const peak = peakBytes / 1e6, limit = LIMITS.layersMegabytes;
    bench.judge(
      "default mode of 10^5 layers: peak memory",
      `${peak.toFixed(0)} MB`,
      `<= ${limit} MB`,
      peak <= limit,
    );
  } finally {
    fs.rmSync(model, { force: true });
  }
}

/** Writes a file of `count` small tensors, layers with weight and bias. */
function writeHeader(file: string, count: number): void {
  let offset = 0;
  const entries = Array.from({ length: count }, (_, i) => {
    const [part, rows] = i % 2 === 0 ? ["weight", 4] : ["bias", 1];
    const begin = offset;
    offset += 8 * rows;
    const name = `blocks.${i >> 1}.${part}`;
    return `"${name}":{"dtype":"BF16","shape":[${rows},4],"data_offsets":[${begin},${offset}]}`;
  });
  const json = new TextEncoder().encode(`{${entries.join(",")}}`);
  const length = new BigUint64Array([BigInt(json.length)]);
  fs.writeFileSync(file, new Uint8Array(length.buffer));
  fs.appendFileSync(file, json);
  fs.appendFileSync(file, new Uint8Array(offset));
}
