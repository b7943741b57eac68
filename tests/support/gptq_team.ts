/** Rounds a layer with GPTQ on several workers, in one shared memory: for tests and benchmarks. */

import type { GptqOptions, GptqReport } from "../../src/quant/gptq.ts";

/** Parameters of one member. Addresses in bytes; arrays lie in `memory`. Row scaling. */
export interface TeamJob extends GptqOptions {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly control: Int32Array<SharedArrayBuffer>;
  readonly index: number;
  readonly size: number;
  readonly rows: number;
  readonly cols: number;
  /** Of the Hessian. */
  readonly blockSize: number;
  /** Address of the factor in 16-bit integers; absent: errors are fed back in f32. */
  readonly packed?: { readonly base: number; readonly bytes: number };
  /**
   * Address of a Hessian in f32, from which that in f64, and then scales by the largest magnitude, are made
   * first.
   */
  readonly given?: number;
  readonly weights: number;
  readonly codes: number;
  readonly scales: number;
  readonly hessian: number;
  /** Member i works in `scratchBytes` from `scratchBase + i * scratchBytes`. */
  readonly scratchBase: number;
  readonly scratchBytes: number;
}

/** The message of a member at the end. */
export interface TeamTimes {
  /** Of making Hessian and scales, if they are not there. */
  readonly loadMs: number;
  readonly factorMs: number;
  readonly roundMs: number;
  readonly report: GptqReport;
  readonly peakBytes: number;
}

/** Workers that are kept for several layers. */
export class GptqTeam {
  readonly #workers: Worker[];

  constructor(size: number) {
    const url = new URL("./gptq_team_worker.ts", import.meta.url);
    this.#workers = Array.from({ length: size }, () => new Worker(url, { type: "module" }));
  }

  /** Runs `job` on all workers and returns what each reports. */
  run(job: Omit<TeamJob, "index" | "size">): Promise<TeamTimes[]> {
    const size = this.#workers.length;
    return Promise.all(
      this.#workers.map((worker, index) =>
        new Promise<TeamTimes>((resolve, reject) => {
          worker.onmessage = ({ data }: MessageEvent<TeamTimes>) => resolve(data);
          worker.onerror = (event) => reject(new Error(event.message));
          worker.postMessage({ ...job, index, size });
        })
      ),
    );
  }

  close(): void {
    for (const worker of this.#workers) worker.terminate();
  }
}
