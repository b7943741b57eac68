/** A worker of `gptq_team.ts`: one member of a team that rounds one layer. */

import { Arena } from "../../src/backend/cpu/arena.ts";
import { WasmLinalg } from "../../src/backend/cpu/wasm_linalg.ts";
import type { LinalgContext } from "../../src/linalg/context.ts";
import { AtomicsTeam, shareOf } from "../../src/linalg/team.ts";
import { gptqRows, prepareGptq } from "../../src/quant/gptq.ts";
import { SCALE_MIN } from "../../src/quant/scheme.ts";
import { absmaxOf } from "../../src/quant/tile_scale.ts";
import type { TeamJob, TeamTimes } from "./gptq_team.ts";

interface WorkerScope {
  onmessage: ((event: MessageEvent<TeamJob>) => void) | null;
  postMessage(message: TeamTimes): void;
}

const scope = globalThis as unknown as WorkerScope;
scope.onmessage = ({ data: job }) => scope.postMessage(runMember(job));

/** Rows that are rounded at a time, as in conversions. */
const BAND_ROWS = 256;

function runMember(job: TeamJob): TeamTimes {
  const { memory, size, rows, cols } = job;
  const scratch = new Arena(
    memory,
    job.scratchBase + job.index * job.scratchBytes,
    job.scratchBytes,
  );
  const kernels = new WasmLinalg(job.module, scratch);
  const team = new AtomicsTeam(job.control, job.index, size);
  const context: LinalgContext = { kernels, memory: scratch, team };
  const buffer = memory.buffer;
  const values = new Float64Array(buffer, job.hessian, cols * job.blockSize);
  const hessian = { size: cols, blockSize: job.blockSize, values, source: "hessian" as const };
  team.barrier();
  const start = performance.now();
  const { start: first, end } = shareOf(team, 0, rows, 4);
  const scales = new Float32Array(buffer, job.scales, rows);
  if (job.given !== undefined) {
    const own = shareOf(team, 0, values.length);
    const given = new Float32Array(buffer, job.given, values.length);
    values.set(given.subarray(own.start, own.end), own.start);
    const weights = new Float32Array(buffer, job.weights, rows * cols);
    for (let row = first; row < end; row++) {
      const largest = absmaxOf(weights.subarray(row * cols, (row + 1) * cols));
      scales[row] = Math.max(largest / 127, SCALE_MIN);
    }
    team.barrier();
  }
  const loaded = performance.now();
  const turbo = job.packed === undefined
    ? null
    : new Arena(memory, job.packed.base, job.packed.bytes);
  const factor = prepareGptq(context, hessian, { ...job, turbo });
  const factored = performance.now();
  for (let row = first; row < end; row += BAND_ROWS) {
    const count = Math.min(BAND_ROWS, end - row) * cols;
    gptqRows(context, factor, {
      weights: new Float32Array(buffer, job.weights + row * cols * 4, count),
      codes: new Int8Array(buffer, job.codes + row * cols, count),
      scales,
      grid: { rows, cols, groupRows: 1, groupCols: cols },
      firstRow: row,
    });
  }
  team.barrier();
  return {
    loadMs: loaded - start,
    factorMs: factored - loaded,
    roundMs: performance.now() - factored,
    report: factor.report,
    peakBytes: scratch.peakBytes,
  };
}
