/**
 * How long the kernels of the default mode take on one chunk, here and there: decode BF16, rotate groups of
 * 256, row scales with scale search, quantize; on the CPU measure, too, as it does for a GPU. A measurement
 * for choosing a device, no benchmark:
 * `scripts/bench_kernels.ts` and `deno task bench` are.
 */

import { fillNormal, randomFor } from "../../core/rng.ts";
import { type Grid, groupCount, STATS_LENGTH } from "../backend.ts";
import { Arena, createSharedMemory, STATICS_BYTES } from "../cpu/arena.ts";
import { WasmKernels } from "../cpu/wasm_kernels.ts";
import { compileKernels } from "../cpu/wasm_module.ts";
import type { Gpu } from "../webgpu/device.ts";
import { quantizeRect } from "../webgpu/quantize_rect.ts";

/** The chunk, of the size that conversions use: 2^20 elements. */
const GRID: Grid = { rows: 256, cols: 4096, groupRows: 1, groupCols: 4096 };
const COUNT = GRID.rows * GRID.cols;
const GROUP = 256;

/** Runs on the CPU, of which the fastest counts. */
const REPEATS = 5;

/** Rows that stay in the cache between kernels. */
const TILE_ROWS = 8;

/** Chunks that are in flight on the GPU while time is taken, if it is fast. */
const IN_FLIGHT = 8;

/** A device on which one chunk takes longer is measured by that one chunk, in milliseconds. */
const SLOW_MS = 250;

/** One that takes longer for its first is not even warmed up. */
const VERY_SLOW_MS = 3000;

/** Result of the search. */
export interface ChainTime {
  /** Time of a chunk of 2^20 elements, in milliseconds, uploads and downloads included. */
  readonly chunkMs: number;
  /** BF16 bytes per second. */
  readonly bytesPerSecond: number;
  /** i8 `[2^20]`, for comparison. */
  readonly codes: Int8Array;
}

/** The time of one core of the CPU. Takes about 100 ms. */
export function timeChainOnCpu(): ChainTime {
  const bytes = STATICS_BYTES + 8 * COUNT;
  const memory = createSharedMemory(bytes);
  const kernels = new WasmKernels(compileKernels(), memory);
  const arena = new Arena(memory, STATICS_BYTES, bytes - STATICS_BYTES);
  const source = arena.u8(2 * COUNT);
  source.set(bf16Weights());
  const codes = arena.i8(COUNT);
  const tile: Grid = { ...GRID, rows: TILE_ROWS };
  const length = TILE_ROWS * GRID.cols;
  const x = arena.f32(length), xhat = arena.f32(length), scales = arena.f32(groupCount(tile));
  const stats = arena.f64(STATS_LENGTH);
  const run = () => {
    for (let at = 0; at < COUNT; at += length) {
      const raw = source.subarray(2 * at, 2 * (at + length));
      const part = codes.subarray(at, at + length);
      kernels.decode(x, raw, "BF16");
      kernels.countNonFinite(x);
      kernels.rotate(x, GROUP);
      kernels.absmax(scales, x, tile);
      kernels.scaleFromAbsmax(scales, scales);
      kernels.searchScale(scales, x, tile);
      kernels.quantize(part, x, scales, tile);
      kernels.dequantize(xhat, part, scales, tile);
      kernels.rotate(xhat, GROUP);
      kernels.decode(x, raw, "BF16");
      kernels.errorStats(stats, x, xhat);
    }
  };
  run(); // the engine compiles
  let bestMs = Infinity; // what else the machine does only ever adds
  for (let k = 0; k < REPEATS; k++) {
    const start = performance.now();
    run();
    bestMs = Math.min(bestMs, performance.now() - start);
  }
  return timeOf(bestMs, codes.slice());
}

/**
 * The time of a GPU, with several chunks in flight as in a conversion.
 *
 * @throws DeviceError if it fails.
 */
export async function timeChainOnGpu(gpu: Gpu): Promise<ChainTime> {
  const raw = bf16Weights();
  const rectOf = () => ({
    raw,
    dtype: "BF16" as const,
    grid: GRID,
    convrotGroupSize: GROUP,
    scaleSearch: true,
    codes: new Int8Array(COUNT),
    scales: new Float32Array(groupCount(GRID)),
  });
  const first = rectOf();
  const firstMs = await elapsed(() => quantizeRect(gpu, first)); // the driver compiles, too
  if (firstMs > VERY_SLOW_MS) return timeOf(firstMs, first.codes);
  const aloneMs = await elapsed(() => quantizeRect(gpu, rectOf()));
  if (aloneMs > SLOW_MS) return timeOf(aloneMs, first.codes);
  const allMs = await elapsed(() =>
    Promise.all(Array.from({ length: IN_FLIGHT }, () => quantizeRect(gpu, rectOf())))
  );
  return timeOf(allMs / IN_FLIGHT, first.codes);
}

async function elapsed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

function timeOf(chunkMs: number, codes: Int8Array): ChainTime {
  return { chunkMs, bytesPerSecond: 2 * COUNT / (chunkMs / 1000), codes };
}

/** Normal numbers, the same each time, as BF16. */
function bf16Weights(): Uint8Array {
  const values = new Float32Array(COUNT);
  fillNormal(values, randomFor(1, "doctor"));
  const words = new Uint32Array(values.buffer);
  return new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer);
}
