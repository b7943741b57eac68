/** A worker of `gptq_team.ts`: one member of a team that rounds one layer. */

import { Arena } from "../../src/backend/cpu/arena.ts";
import { WasmLinalg } from "../../src/backend/cpu/wasm_linalg.ts";
import type { LinalgContext } from "../../src/linalg/context.ts";
import { AtomicsTeam, shareOf } from "../../src/linalg/team.ts";
import { gptqRows, prepareGptq } from "../../src/quant/gptq.ts";
import type { TeamJob, TeamTimes } from "./gptq_team.ts";

interface WorkerScope {
  onmessage: ((event: MessageEvent<TeamJob>) => void) | null;
  postMessage(message: TeamTimes): void;
}

const scope = globalThis as unknown as WorkerScope;
scope.onmessage = ({ data: job }) => scope.postMessage(runMember(job));

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
  const factor = prepareGptq(context, hessian, job);
  const factored = performance.now();
  const { start: first, end } = shareOf(team, 0, rows, 4);
  gptqRows(context, factor, {
    weights: new Float32Array(buffer, job.weights + first * cols * 4, (end - first) * cols),
    codes: new Int8Array(buffer, job.codes + first * cols, (end - first) * cols),
    scales: new Float32Array(buffer, job.scales, rows),
    grid: { rows, cols, groupRows: 1, groupCols: cols },
    firstRow: first,
  });
  team.barrier();
  return {
    factorMs: factored - start,
    roundMs: performance.now() - factored,
    report: factor.report,
    peakBytes: scratch.peakBytes,
  };
}
