/** Benches of many small things: layers with calibration data, patterns of a layer config. */

import fs from "node:fs";
import path from "node:path";
import { writeSyntheticModel } from "../tests/support/synthetic_model.ts";
import { weight } from "../tests/support/synthetic_shapes.ts";
import { compileLayerPattern } from "../src/config/layer_pattern.ts";
import { NO_OVERRIDE } from "../src/config/layer_override.ts";
import { resolveLayerConfig } from "../src/config/resolve_layer_config.ts";
import { type Bench, convert, seconds } from "./support/bench_run.ts";
import { median } from "./support/measure.ts";

/** The targets. */
const LIMITS = { smallSeconds: 1.2, patternSeconds: 10 };

/** Rows and columns of the linear layers of a block of all-MiniLM-L6-v2. */
const BLOCK = [[384, 384], [384, 384], [384, 384], [384, 384], [1536, 384], [384, 1536]] as const;

/** Six blocks of a small language model with 1,024 rows of inputs for each of their 36 layers. */
export async function benchSmall(bench: Bench, folder: string): Promise<void> {
  const model = path.join(folder, "quantsmith-bench-small.safetensors");
  const data = path.join(folder, "quantsmith-bench-small-inputs.safetensors");
  const layers = Array.from(
    { length: 6 },
    (_, block) =>
      BLOCK.map(([rows, cols], k) => ({ name: `layer.${block}.linear_${k}`, rows, cols })),
  ).flat();
  writeSyntheticModel(model, layers.map(({ name, rows, cols }) => weight(name, rows, cols)));
  const inputs = layers.map(({ name, cols }) => ({
    ...weight(name, 1024, cols),
    name: `${name}.activations`,
  }));
  writeSyntheticModel(data, inputs);
  try {
    const times: number[] = [], without: number[] = [];
    for (let round = 0; round < bench.rounds; round++) {
      without.push((await convert(model, ["--preset", "none"])).seconds);
      times.push((await convert(model, ["--preset", "none", "--calibration-data", data])).seconds);
    }
    bench.note("36 small layers without data: wall time", seconds(without));
    const limit = LIMITS.smallSeconds;
    bench.judge(
      "36 small layers with 1,024 rows of data: wall time",
      seconds(times),
      `<= ${limit} s`,
      median(times) <= limit,
    );
  } finally {
    for (const file of [model, data]) fs.rmSync(file, { force: true });
  }
}

/** 100,000 patterns, names and pieces of them, on as many layers. */
export function benchPatterns(bench: Bench): void {
  const layers = Array.from({ length: 100_000 }, (_, i) => `blocks.${i >> 4}.mod${i & 15}.to_q`);
  const config = { path: "the bench", exclusions: [], default: null };
  const start = performance.now();
  const patterns = layers.map((layer, i) => ({
    pattern: compileLayerPattern(i % 2 === 0 ? layer : `^${layer.replaceAll(".", "\\.")}$`, {
      place: "the bench",
    }),
    override: { ...NO_OVERRIDE, origin: "the bench" },
  }));
  const { unused } = resolveLayerConfig({ ...config, patterns }, layers);
  const took = (performance.now() - start) / 1000, limit = LIMITS.patternSeconds;
  if (unused.length > 0) throw new Error(`${unused.length} patterns match nothing`);
  bench.judge(
    "100,000 patterns on as many layers",
    `${took.toFixed(2)} s`,
    `<= ${limit} s`,
    took <= limit,
  );
}
