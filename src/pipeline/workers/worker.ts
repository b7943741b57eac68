/**
 * The entry point of a worker: takes chunks of a run until none is left. Composes pipeline and kernels
 * as `main.ts` does for the main thread.
 */

import { closeSync, openSync } from "node:fs";
import { Arena } from "../../backend/cpu/arena.ts";
import { WasmLinalg } from "../../backend/cpu/wasm_linalg.ts";
import { soloContext } from "../../linalg/context.ts";
import { WasmKernels } from "../../backend/cpu/wasm_kernels.ts";
import { writeExactly } from "../../safetensors/output_file.ts";
import { readExactly } from "../../safetensors/reader.ts";
import { type ChunkContext, SLOT, SLOT_LENGTH } from "../chunks/chunk_context.ts";
import { runChunk } from "../chunks/run_chunk.ts";
import { TaskList } from "../tasks.ts";
import { CONTROL, type RunMessage, type WorkerMessage } from "./protocol.ts";

/** The part of a worker's global scope that is used here. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<RunMessage>) => void) | null;
  postMessage(message: WorkerMessage): void;
}

const scope = globalThis as unknown as WorkerScope;
scope.onmessage = (event) => runAll(event.data);

function runAll(run: RunMessage): void {
  const control = new Int32Array(run.control);
  const list = new TaskList(run.tasks);
  let task = -1;
  const inputs: number[] = [];
  let output = -1;
  try {
    for (const path of run.inputPaths) inputs.push(openSync(path, "r"));
    if (run.outputPath !== null) output = openSync(run.outputPath, "r+");
    const kernels = new WasmKernels(run.module, run.memory);
    const scratch = new Arena(run.memory, run.arenaBase, run.arenaBytes);
    const linalg = run.linalgModule === null
      ? null
      : soloContext(new WasmLinalg(run.linalgModule, scratch), scratch);
    while (Atomics.load(control, CONTROL.stop) === 0) {
      const chunk = Atomics.add(control, CONTROL.nextChunk, 1);
      if (chunk >= list.chunkCount) break;
      task = list.taskOf(chunk);
      const slot = new Float64Array(run.slots, chunk * SLOT_LENGTH * 8, SLOT_LENGTH);
      const context: ChunkContext = {
        kernels,
        linalg,
        scratch,
        note: (text) => scope.postMessage({ kind: "note", task, text }),
        read: (file, view, position) => readExactly(inputs[file]!, view, position),
        write: (view, position) => writeExactly(output, view, position),
        slot,
      };
      runChunk(context, list.tasks[task]!, list.grids[task]!, chunk - list.firstChunk[task]!);
      if (list.tasks[task]!.kind !== "scan" && slot[SLOT.nonFinite]! > 0) {
        Atomics.store(control, CONTROL.stop, 1);
        scope.postMessage({ kind: "nonFinite", task });
      }
      if (Atomics.sub(control, CONTROL.openChunks + task, 1) === 1) {
        scope.postMessage({ kind: "taskDone", task });
      }
    }
  } catch (error) {
    Atomics.store(control, CONTROL.stop, 1);
    const message = error instanceof Error ? error.message : String(error);
    const code = error instanceof Error ? (error as NodeJS.ErrnoException).code ?? "" : "";
    scope.postMessage({ kind: "failed", task, message, code });
  } finally {
    for (const fd of inputs) closeSync(fd);
    if (output >= 0) closeSync(output);
  }
  scope.postMessage({ kind: "finished" });
}
