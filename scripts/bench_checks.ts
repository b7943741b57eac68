/**
 * How much of a run on a GPU are the checks of what it computes (`src/run/checks/`), by the time that workers
 * count, not by the difference of two runs:
 *
 *     deno run -A scripts/bench_checks.ts [--layers 4] [--size 2048]
 *
 * Square layers in BF16 and 1,024 rows of inputs. Three numbers for each mode: seconds of checks, on Linux of processor
 * time; their share of all processor time of the run, which on a software adapter has its kernels in it; and their share of the processor
 * time of the same run on the CPU, as the work beside the kernels costs about as much there.
 */

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { describeAdapter, findAdapter } from "../src/backend/webgpu/adapter.ts";
import { convertModel } from "../src/convert/convert.ts";
import { f32ToBf16 } from "../src/core/dtype.ts";
import { fillNormal, randomFor } from "../src/core/rng.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../src/plan/options.ts";
import { GpuService } from "../src/run/workers/gpu_service.ts";
import { tensorOf, writeModel } from "../tests/support/model_files.ts";

const { values: flags } = parseArgs({
  options: {
    layers: { type: "string", default: "4" },
    size: { type: "string", default: "2048" },
    // One run, in a process of its own.
    one: { type: "string" },
    device: { type: "string" },
    folder: { type: "string" },
  },
});

const WORKER_URL = new URL("../src/run/workers/worker.ts", import.meta.url);

/** The processor time of a thread, on Linux. */
const THREAD_TIME = "/proc/thread-self/schedstat";
const INPUTS = 1024;

interface Mode {
  readonly options: Partial<ConvertOptions>;
  readonly hasData: boolean;
}

const MODES: Readonly<Record<string, Mode>> = {
  "default mode": { options: {}, hasData: false },
  "w4a8": { options: { output: "w4a8" }, hasData: false },
  "w6a8": { options: { output: "w6a8" }, hasData: false },
  "GPTQ": { options: {}, hasData: true },
  "GPTQ, w4a8": { options: { output: "w4a8" }, hasData: true },
  "QuIP": { options: { scaling: "row", method: "quip" }, hasData: true },
};

/**
 * The script of workers whose clock is the processor time of their thread, so that it does not matter what else the
 * machine does; where there is no such clock, time goes by for everybody.
 */
function workerIn(folder: string): URL {
  if (!existsSync(THREAD_TIME)) return WORKER_URL;
  const clock = join(folder, "clock.js"), path = join(folder, "worker.js");
  writeFileSync(
    clock,
    `import { readFileSync } from "node:fs";
performance.now = () => Number(readFileSync("${THREAD_TIME}", "utf8").split(" ")[0]) / 1e6;
`,
  );
  writeFileSync(path, `import "./clock.js";\nimport "${WORKER_URL.href}";\n`);
  return pathToFileURL(path);
}

/** Times of one run, in seconds. */
interface Times {
  readonly checks: number;
  /** Processor time of the conversion. */
  readonly processor: number;
}

if (flags.one !== undefined) {
  console.log(JSON.stringify(await measured(flags.one, flags.device!, flags.folder!)));
  process.exit(0); // its workers would keep it
}

async function measured(name: string, device: string, folder: string): Promise<Times> {
  const { options, hasData } = MODES[name]!;
  const gpu = device === "gpu" ? await GpuService.start(WORKER_URL) : null;
  const workerUrl = workerIn(folder);
  const calibration = hasData ? { calibrationPath: join(folder, "inputs.safetensors") } : {};
  const before = process.cpuUsage();
  await convertModel({
    input: join(folder, "in.safetensors"),
    output: join(folder, "out.safetensors"),
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options, ...calibration },
    workerUrl,
    workers: 2,
    force: true,
    openGpu: () => Promise.resolve(gpu),
  });
  const { user, system } = process.cpuUsage(before);
  if (gpu !== null && gpu.failure !== null) throw new Error(gpu.failure);
  return { checks: gpu?.checkedSeconds ?? 0, processor: (user + system) / 1e6 };
}

function write(folder: string, layers: number, size: number): void {
  const named = Array.from({ length: layers }, (_, k) => `blocks.${k}.lin`);
  writeModel(
    join(folder, "in.safetensors"),
    named.map((name) => {
      const values = new Float32Array(size * size);
      fillNormal(values, randomFor(1, name));
      return tensorOf(`${name}.weight`, "BF16", [size, size], Uint16Array.from(values, f32ToBf16));
    }),
  );
  writeModel(
    join(folder, "inputs.safetensors"),
    named.map((name) => {
      const values = new Float32Array(INPUTS * size);
      fillNormal(values, randomFor(2, name));
      // Channels go together.
      for (let i = 0; i < values.length; i++) values[i] = values[i]! + 2 * values[i - i % size]!;
      return tensorOf(`${name}.activations`, "F32", [INPUTS, size], values);
    }),
  );
}

const adapter = await findAdapter();
if (adapter === null) throw new Error("There is no GPU here");
const { name: adapterName, isSoftware } = describeAdapter(adapter);
const layers = Number(flags.layers), size = Number(flags.size);
const folder = mkdtempSync(join(tmpdir(), "quantsmith-checks-"));
try {
  write(folder, layers, size);
  console.log(`${adapterName}, ${layers} layers of ${size} x ${size}, ${INPUTS} rows of inputs`);
  for (const name of Object.keys(MODES)) {
    const [cpu, gpu] = ["cpu", "gpu"].map((device) =>
      JSON.parse(execFileSync(process.execPath, [
        ...["run", "-A", fileURLToPath(import.meta.url)],
        ...["--one", name, "--device", device, "--folder", folder],
      ], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] })) as Times
    );
    const share = (whole: number) => `${(100 * gpu!.checks / whole).toFixed(2)} %`;
    console.log(
      `${name.padEnd(14)} checks ${gpu!.checks.toFixed(3)} s: ` +
        `${share(gpu!.processor)} of ${gpu!.processor.toFixed(1)} s on the ` +
        `${isSoftware ? "software " : ""}GPU, ${share(cpu!.processor)} of ` +
        `${cpu!.processor.toFixed(1)} s on the CPU`,
    );
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
