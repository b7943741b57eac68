/**
 * Times whole conversions on the GPU of this machine beside those on its CPU, and beside reading the file:
 * the default mode of a synthetic checkpoint, and GPTQ of one square layer with a given Hessian.
 *
 *     deno run -A scripts/bench_device.ts [--gb 2] [--size 4096] [--rounds 3]
 */

import { execFileSync } from "node:child_process";
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { describeAdapter, findAdapter } from "../src/backend/webgpu/adapter.ts";
import { writeSyntheticModel } from "../tests/support/synthetic_model.ts";
import { fluxLikeOfBytes, MODEL_SIZES } from "../tests/support/synthetic_shapes.ts";
import { timeGptq } from "./bench_gptq.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));

const { values: flags } = parseArgs({
  options: {
    gb: { type: "string", default: "2" },
    size: { type: "string", default: "4096" },
    rounds: { type: "string", default: "3" },
  },
});
const rounds = Number(flags.rounds), cores = availableParallelism();

const adapter = await findAdapter();
if (adapter === null) throw new Error("There is no GPU here");
const { name, isSoftware } = describeAdapter(adapter);
console.log(`${name}${isSoftware ? " (software)" : ""}, ${cores} CPU cores`);

/** The least of several times, in seconds. */
function best(run: () => void): number {
  return Math.min(...Array.from({ length: rounds }, () => {
    const start = performance.now();
    run();
    return (performance.now() - start) / 1000;
  }));
}

/** Reads a file once, in parts, by one thread. Returns its bytes. */
function readAll(path: string): number {
  const fd = openSync(path, "r"), part = new Uint8Array(8 << 20);
  const { size } = fstatSync(fd);
  for (let at = 0; at < size; at += part.length) readSync(fd, part, 0, part.length, at);
  closeSync(fd);
  return size;
}

const folder = mkdtempSync(join(tmpdir(), "quantsmith-device-"));
try {
  const model = join(folder, "model.safetensors");
  writeSyntheticModel(model, fluxLikeOfBytes(MODEL_SIZES["demo"]!, Number(flags.gb) * 1e9), {
    seed: 1,
  });
  const bytes = readAll(model);
  const reading = best(() => readAll(model));
  const rate = (seconds: number): string => `${(bytes / seconds / 1e9).toFixed(2)} GB/s`;
  console.log(`reading the file: ${rate(reading)}`);
  const times = (["cpu", "gpu"] as const).map((device) => {
    const seconds = best(() =>
      execFileSync(process.execPath, [
        ...["run", "-A", MAIN, model, join(folder, "out.safetensors"), "--force"],
        ...["--device", device, "--no-progress", "--verbose", "MINIMAL"],
      ], { stdio: "inherit" })
    );
    console.log(
      `default mode, ${device}: ${rate(seconds)}, ` +
        `${(100 * reading / seconds).toFixed(0)} % of the rate of reading`,
    );
    return seconds;
  });
  console.log(`default mode, cpu / gpu: ${(times[0]! / times[1]!).toFixed(2)}`);
  const gptq: number[] = [];
  for (const device of ["cpu", "gpu"]) {
    const { command } = await timeGptq({
      ...{ size: Number(flags.size), workers: Math.min(8, cores), rounds, python: null },
      flags: ["--device", device],
    });
    gptq.push(command);
  }
  console.log(
    `GPTQ of ${flags.size} x ${flags.size}: cpu ${gptq[0]!.toFixed(2)} s, ` +
      `gpu ${gptq[1]!.toFixed(2)} s, cpu / gpu ${(gptq[0]! / gptq[1]!).toFixed(2)}`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
