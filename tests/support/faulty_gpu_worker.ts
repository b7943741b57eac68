/**
 * A worker whose device fails when a test asks for it: the script of the product, with the functions of the
 * device replaced. Its URL names the channel that it listens on: `?channel=NAME`; see `faulty_gpu.ts`.
 */

import { Gpu } from "../../src/backend/webgpu/device.ts";
import "../../src/run/workers/worker.ts";
import type { Fault } from "./faulty_gpu.ts";

/** More bytes than any device has. */
const TOO_LARGE = 2 ** 50;

const channel = new BroadcastChannel(new URL(import.meta.url).searchParams.get("channel")!);
const open = Gpu.open;
Gpu.open = async (adapter, deadlines) => {
  const gpu = await open.call(Gpu, adapter, deadlines);
  channel.onmessage = ({ data }: MessageEvent<Fault>) => FAULTS[data](gpu);
  return gpu;
};

const FAULTS: Readonly<Record<Fault, (gpu: Gpu) => void>> = {
  lost: (gpu) => gpu.device.destroy(),
  memory: ({ buffers }) => {
    const take = buffers.take.bind(buffers);
    buffers.take = (label, _, usage) => take(label, TOO_LARGE, usage);
  },
  shader: (gpu) => {
    const pipeline = gpu.pipeline.bind(gpu);
    gpu.pipeline = (shader) => {
      gpu.forget(shader);
      return pipeline({ ...shader, code: `${shader.code}\nbroken` });
    };
  },
};
