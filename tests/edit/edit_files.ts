/** Edited and migrated files of tests, made in memory and read back. */

import { join } from "node:path";
import type { Tensor } from "../../src/core/tensor.ts";
import { compileLayerPattern } from "../../src/config/layer_pattern.ts";
import { applyOperations } from "../../src/edit/operation.ts";
import { type EditOptions, type EditPlan, planEdit } from "../../src/edit/plan_edit.ts";
import { type MigrationPlan, planMigration } from "../../src/edit/plan_migration.ts";
import { type RequantizedLayer, writeEdited } from "../../src/edit/write_edited.ts";
import { verifyModel, type VerifyReport } from "../../src/verify/verify.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { openModel, TensorReader } from "../../src/safetensors/reader.ts";
import { readModel, temporaryFolder, writeModel } from "../support/model_files.ts";
import { WORKER_URL } from "../support/encode.ts";

type Metadata = Record<string, string> | null;

/** The written file. */
export interface Written {
  readonly tensors: Map<string, Tensor>;
  readonly metadata: Readonly<Record<string, string>> | null;
}

/** An edit that changes nothing, to spread options over. */
export const NO_EDIT: EditOptions = Object.freeze<EditOptions>({
  removeKeys: [],
  addKeys: new Map(),
  filter: null,
  metadata: null,
  markers: false,
});

/** Returns a pattern of layers. */
export function layerPattern(source: string): EditOptions["filter"] {
  return compileLayerPattern(source, { place: "--quant-filter" });
}

/** Edits a file with these tensors. */
export async function edit(
  tensors: readonly Tensor[],
  options: Partial<EditOptions>,
  metadata: Metadata = null,
): Promise<Written & { plan: EditPlan }> {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const input = join(folder.path, "in.safetensors");
  const output = join(folder.path, "out.safetensors");
  writeModel(input, tensors, metadata);
  const source = openModel(input);
  using reader = new TensorReader(source);
  const plan = planEdit(source, { ...NO_EDIT, ...options }, (tensor) => reader.read(tensor));
  await writeEdited(applyOperations(source, plan.operations), { output, pool });
  return { plan, tensors: readModel(output), metadata: openModel(output).metadata };
}

/** Migrates a file with these tensors and verifies the result. */
export async function migrate(
  tensors: readonly Tensor[],
  metadata: Metadata = null,
): Promise<
  Written & { plan: MigrationPlan; layers: RequantizedLayer[]; report: VerifyReport }
> {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const input = join(folder.path, "in.safetensors");
  const output = join(folder.path, "out.safetensors");
  writeModel(input, tensors, metadata);
  const source = openModel(input);
  using reader = new TensorReader(source);
  const plan = planMigration(source, (tensor) => reader.read(tensor));
  const layers = await writeEdited(plan.edited, {
    output,
    pool,
    matrixOf: ({ name }) => plan.requantized.get(name)!,
  });
  const written = openModel(output);
  return {
    plan,
    layers,
    report: await verifyModel(written, pool),
    tensors: readModel(output),
    metadata: written.metadata,
  };
}

/** The object of a `comfy_quant` tensor. */
export function markerOf(tensors: ReadonlyMap<string, Tensor>, layer: string): unknown {
  const tensor = tensors.get(`${layer}.comfy_quant`);
  return tensor === undefined ? null : JSON.parse(new TextDecoder().decode(tensor.data));
}
