/** Benches of single features: merging, layer configs, learned rounding, models of many layers. */

import fs from "node:fs";
import path from "node:path";
import { tensorOf, writeModel } from "../tests/support/model_files.ts";
import { syntheticLayer } from "../tests/support/synthetic_layer.ts";
import { writeSyntheticModel } from "../tests/support/synthetic_model.ts";
import {
  dataBytes,
  fluxLikeTensors,
  loraLike,
  manyLayers,
  MODEL_SIZES,
  weight,
} from "../tests/support/synthetic_shapes.ts";
import { type Bench, convert, prepare, quantsmith, seconds } from "./support/bench_run.ts";
import { median, settlePageCache } from "./support/measure.ts";

/** The targets. */
const LIMITS = {
  mergeRatios: [1.2, 1.7],
  configSeconds: 1,
  learnedRatio: 3,
  sharedRatio: 1.6,
  firstTensorSeconds: 0.2,
};

/** Ranks of the LoRAs that are merged. */
const RANKS = [16, 64];

/** The model that LoRAs are merged into: 1.3 GB. */
const MERGE_SIZE = { ...MODEL_SIZES.bench, doubleBlocks: 1, singleBlocks: 1 };

/** The default mode with a LoRA on every layer of the blocks, beside the same without, interleaved. */
export async function benchMerge(bench: Bench, folder: string): Promise<void> {
  const tensors = fluxLikeTensors(MERGE_SIZE);
  const model = path.join(folder, "quantsmith-bench-merge.safetensors");
  prepare(model, tensors, dataBytes(tensors));
  const loras = RANKS.map((rank) => path.join(folder, `quantsmith-bench-lora${rank}.safetensors`));
  RANKS.forEach((rank, i) => writeSyntheticModel(loras[i]!, loraLike(tensors, rank)));
  try {
    const plain: number[] = [];
    const merged: number[][] = RANKS.map(() => []);
    for (let round = 0; round < bench.rounds; round++) {
      settlePageCache(model);
      plain.push((await convert(model, [])).seconds);
      for (const [i, lora] of loras.entries()) {
        settlePageCache(model);
        merged[i]!.push((await convert(model, ["--merge-lora", lora])).seconds);
      }
    }
    const size = `${(fs.statSync(model).size / 1e9).toFixed(2)} GB`;
    bench.note(`default mode of ${size}: wall time`, seconds(plain));
    for (const [i, rank] of RANKS.entries()) {
      const ratio = median(merged[i]!) / median(plain);
      const limit = LIMITS.mergeRatios[i]!;
      bench.note(`the same + LoRA of rank ${rank}: wall time`, seconds(merged[i]!));
      bench.judge(
        `rank ${rank}: with / without LoRA`,
        ratio.toFixed(2),
        `<= ${limit}`,
        ratio <= limit,
      );
    }
  } finally {
    for (const file of [model, ...loras]) fs.rmSync(file, { force: true });
  }
}

/** Planning of many layers by as many regular expressions. */
export async function benchConfig(bench: Bench, folder: string): Promise<void> {
  const count = 2000;
  const model = path.join(folder, "quantsmith-bench-config.safetensors");
  const config = path.join(folder, "quantsmith-bench-config.json");
  const small = Array.from({ length: count }, (_, i) => weight(`blocks.${i}.linear`, 16, 16));
  writeSyntheticModel(model, small);
  const entries = small.map((_, i) => [`^blocks\\.(${i})\\.lin(ear)?`, { format: "int8" }]);
  fs.writeFileSync(config, JSON.stringify(Object.fromEntries(entries)));
  try {
    const plan = [model, "--preset", "none", "--dry-run", "--json"];
    const times: number[] = [];
    const bare: number[] = [];
    for (let round = 0; round < bench.rounds; round++) {
      bare.push((await quantsmith(plan)).seconds);
      times.push((await quantsmith([...plan, "--layer-config", config])).seconds);
    }
    const limit = LIMITS.configSeconds;
    const typical = median(times);
    bench.note(`plan of ${count} layers, start-up included`, `${median(bare).toFixed(2)} s`);
    bench.judge(
      `the same by ${count} regular expressions`,
      `${typical.toFixed(2)} s`,
      `< ${limit} s`,
      typical < limit,
    );
  } finally {
    for (const file of [model, config]) fs.rmSync(file, { force: true });
  }
}

/** Learned rounding beside GPTQ of the same layer, start-up, reading and the Hessian included. */
export async function benchLearned(bench: Bench, folder: string): Promise<void> {
  const side = 2048, tokens = 512;
  const file = path.join(folder, "quantsmith-bench-learned.safetensors");
  const calibration = path.join(folder, "quantsmith-bench-learned-calibration.safetensors");
  prepare(file, [weight("blocks.0.linear", side, side)], 2 * side * side);
  const inputs = {
    ...weight("blocks.0.linear", tokens, side),
    name: "blocks.0.linear.activations",
  };
  prepare(calibration, [inputs], 2 * tokens * side);
  const args = ["--preset", "none", "--workers", "1", "--scaling_mode", "row"];
  const runs = [
    ["gptq", ["--calibration-data", calibration]],
    ["100 steps", ["--optimizer", "original", "--num_iter", "100"]],
    ["defaults", ["--optimizer", "original"]],
  ] as const;
  try {
    const times: number[][] = runs.map(() => []);
    for (let round = 0; round < bench.rounds; round++) {
      for (const [k, [, more]] of runs.entries()) {
        times[k]!.push((await convert(file, [...args, ...more])).seconds);
      }
    }
    const [gptq, hundred, defaults] = times as [number[], number[], number[]];
    const layer = `${side} x ${side}, one worker`;
    bench.note(`${layer}, gptq with ${tokens} inputs: wall time`, seconds(gptq));
    bench.note(`${layer}, learned, 100 steps: wall time`, seconds(hundred));
    bench.note(`${layer}, learned, defaults: wall time`, seconds(defaults));
    const ratio = median(hundred) / median(gptq), limit = LIMITS.learnedRatio;
    bench.judge("learned, 100 steps / gptq", ratio.toFixed(2), `<= ${limit}`, ratio <= limit);
  } finally {
    fs.rmSync(file, { force: true });
    fs.rmSync(calibration, { force: true });
  }
}

/** GPTQ of three layers that read the same inputs, as q, k and v of an attention do, beside one of them. */
export async function benchShared(bench: Bench, folder: string): Promise<void> {
  const side = 4096, tokens = 1024;
  const names = ["q", "k", "v"].map((name) => `blocks.0.attn.${name}`);
  const { inputs } = syntheticLayer({ rows: 1, cols: side, seed: 1, rank: 64 });
  const rows = inputs(tokens, 1);
  const files = [1, 3].map((count) => {
    const model = path.join(folder, `quantsmith-bench-shared${count}.safetensors`);
    const data = path.join(folder, `quantsmith-bench-shared${count}-inputs.safetensors`);
    const layers = names.slice(0, count);
    writeSyntheticModel(model, layers.map((name) => weight(name, side, side)));
    const same = layers.map((name) => tensorOf(`${name}.activations`, "F32", [tokens, side], rows));
    writeModel(data, same);
    return { model, data, times: [] as number[] };
  });
  try {
    for (let round = 0; round < bench.rounds; round++) {
      for (const { model, data, times } of files) {
        const args = ["--preset", "none", "--calibration-data", data];
        times.push((await convert(model, args)).seconds);
      }
    }
    const [one, three] = files.map(({ times }) => times) as [number[], number[]];
    bench.note(`GPTQ of ${side} x ${side}, ${tokens} inputs: wall time`, seconds(one));
    bench.note("the same of three layers with these inputs: wall time", seconds(three));
    const ratio = median(three) / median(one), limit = LIMITS.sharedRatio;
    bench.judge("three layers / one", ratio.toFixed(2), `<= ${limit}`, ratio <= limit);
  } finally {
    for (const { model, data } of files) {
      fs.rmSync(model, { force: true });
      fs.rmSync(data, { force: true });
    }
  }
}

/** Time until the first tensor of a model of many layers is done. */
export async function benchLayers(bench: Bench, folder: string): Promise<void> {
  const count = 1000;
  const file = path.join(folder, "quantsmith-bench-layers.safetensors");
  prepare(file, manyLayers(count), count * 2 * 256 * 256);
  const out = `${file}.out.safetensors`;
  try {
    const run = await quantsmith([file, out, "--json"], {
      isFirst: (line) => JSON.parse(line).event === "tensor",
    });
    const limit = LIMITS.firstTensorSeconds;
    const first = run.firstSeconds;
    bench.judge(
      `${count} layers: first tensor done`,
      `${first.toFixed(2)} s`,
      `< ${limit} s`,
      first < limit,
    );
    bench.note(`${count} layers: wall time`, `${run.seconds.toFixed(2)} s`);
  } finally {
    fs.rmSync(out, { force: true });
    fs.rmSync(file, { force: true });
  }
}
