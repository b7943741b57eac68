/** The tensors of an output: what they hold, and their places. */

import { UnsupportedError } from "../core/errors.ts";
import type { SourceTensor, TensorInfo } from "../core/tensor.ts";
import type { Scheme } from "../quant/scheme.ts";
import type { PlacedTensor } from "../safetensors/layout.ts";
import { layoutOutput, type OutputPart, type ShardOptions } from "../safetensors/shard_layout.ts";

/** Content of an output tensor. */
export type Content =
  | { readonly kind: "copy"; readonly source: SourceTensor }
  | { readonly kind: "cast"; readonly source: SourceTensor; readonly dtype: "F16" | "BF16" | "F32" }
  | { readonly kind: "codes"; readonly source: SourceTensor; readonly scheme: Scheme }
  | { readonly kind: "scales"; readonly source: SourceTensor }
  /** Which set of levels each group of a weight has: a byte each. */
  | { readonly kind: "choices"; readonly source: SourceTensor }
  /** The scale of a whole weight that stands beside those of its groups. */
  | { readonly kind: "wholeScale"; readonly source: SourceTensor }
  | { readonly kind: "inline"; readonly bytes: Uint8Array };

/** An output tensor in its place; `offsetBytes` is an address that counts through all files. */
export interface PlannedOutput extends PlacedTensor {
  /** Origin of its bytes. */
  readonly content: Content;
}

/** Outputs without their places. */
export type PlannedOutputs = { info: TensorInfo; content: Content }[];

/**
 * Gives each output its place.
 *
 * @throws UnsupportedError if two have one name. RangeError if a size overflows.
 */
export function layoutOutputs(
  wanted: PlannedOutputs,
  metadata: Record<string, string> | null,
  { path, shardBytes }: { path: string } & ShardOptions,
): { outputs: PlannedOutput[]; parts: readonly OutputPart[]; totalBytes: number } {
  const contents = new Map<string, Content>();
  for (const { info, content } of wanted) {
    if (contents.has(info.name)) {
      throw new UnsupportedError(
        `Cannot plan ${JSON.stringify(path)}: the output would hold ` +
          `${JSON.stringify(info.name)} twice; the source has a tensor of that name already`,
      );
    }
    contents.set(info.name, content);
  }
  const { entries, ...rest } = layoutOutput(wanted.map(({ info }) => info), metadata, {
    shardBytes,
  });
  // Not by spreading, which takes four times as much memory: each layer has three outputs.
  const outputs = entries.map(({ name, dtype, shape, offsetBytes, byteLength }) => (
    { name, dtype, shape, offsetBytes, byteLength, content: contents.get(name)! }
  ));
  return { ...rest, outputs };
}
