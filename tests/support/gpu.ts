/**
 * The device that tests run on: any adapter, a software one too. Null if there is none, and in
 * processes that are asked to do without (`QUANTSMITH_TEST_GPU=none`).
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { findAdapter } from "../../src/backend/webgpu/adapter.ts";
import { Deadlines } from "../../src/backend/webgpu/deadlines.ts";
import { Gpu } from "../../src/backend/webgpu/device.ts";

// Passed checks of devices are remembered, but not in a user's folder.
process.env["XDG_CACHE_HOME"] = join(tmpdir(), "quantsmith-tests");

const adapter = process.env["QUANTSMITH_TEST_GPU"] === "none" ? null : await findAdapter();

/** Software adapters compile for minutes on a machine that does something else, too. */
const PATIENT = new Deadlines({ baseMs: 900_000 });

/** The open device; the process ends with it open. */
export const testGpu: Gpu | null = adapter === null ? null : await Gpu.open(adapter, PATIENT);

/** Registers a test that needs a GPU; ignored if there is none. */
export function testGpuOnly(name: string, body: (gpu: Gpu) => void | Promise<void>): void {
  Deno.test({
    name: `${name} [webgpu]`,
    ignore: testGpu === null,
    fn: () => body(testGpu!),
  });
}
