/** Tensors of a model by name, for programs that use this project as a library. */

import { nearest } from "../core/nearest.ts";
import type { DType } from "../core/dtype.ts";
import type { SourceTensor, Tensor } from "../core/tensor.ts";
import type { ModelSource } from "./model_source.ts";
import { openModel, TensorReader } from "./reader.ts";

/** How a {@link UnifiedSafetensorsLoader} holds its tensors. */
export interface LoaderOptions {
  /** Read each tensor when it is asked for, instead of all of them at once. Default: false. */
  readonly lowMemory?: boolean;
}

/**
 * The tensors of a safetensors file, a folder, or shards with an index, as one model.
 *
 * In standard mode all tensors are read when it is made, and stay in memory until they are marked as
 * processed or the loader is closed; `getTensor` gives the same bytes each time. In low-memory mode only
 * the headers are read then, and each `getTensor` reads its tensor anew.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * const folder = mkdtempSync(join(tmpdir(), "example-"));
 * const path = join(folder, "model.safetensors");
 * // Length of the header, header, values.
 * const header = JSON.stringify({ bias: { dtype: "F32", shape: [2], data_offsets: [0, 8] } });
 * const data = Float32Array.of(1, 2);
 * const file = new Blob([BigUint64Array.of(BigInt(header.length)), header, data]);
 * writeFileSync(path, await file.bytes());
 *
 * using loader = new UnifiedSafetensorsLoader(path, { lowMemory: true });
 * for (const name of loader.keys()) {
 *   const { dtype, shape, data } = loader.getTensor(name);
 *   assert.deepEqual([name, dtype, shape, data.length], ["bias", "F32", [2], 8]);
 *   loader.markProcessed(name);
 * }
 * rmSync(folder, { recursive: true });
 * ```
 */
export class UnifiedSafetensorsLoader implements Disposable {
  readonly #source: ModelSource;
  readonly #tensors: ReadonlyMap<string, SourceTensor>;
  readonly #reader: TensorReader;
  readonly #loaded = new Map<string, Tensor>();
  #closed = false;

  /**
   * Opens a model.
   *
   * @param path a file, a folder or an index, as for `openModel`.
   * @throws FormatError if a file breaks a rule of its format; Error if it cannot be read.
   */
  constructor(path: string, { lowMemory = false }: LoaderOptions = {}) {
    this.#source = openModel(path);
    this.#tensors = new Map(this.#source.tensors.map((tensor) => [tensor.name, tensor]));
    this.#reader = new TensorReader(this.#source);
    if (lowMemory) return;
    try {
      for (const tensor of this.#source.tensors) this.#loaded.set(tensor.name, this.#read(tensor));
    } finally {
      this.#reader.close(); // it opens again if a tensor is wanted after markProcessed
    }
  }

  /** Returns the names of all tensors, in file order, then in offset order. */
  keys(): string[] {
    this.#checkOpen();
    return [...this.#tensors.keys()];
  }

  /** Returns the `__metadata__` of the model, `{}` if there is none; of shards, all merged. */
  metadata(): Readonly<Record<string, string>> {
    this.#checkOpen();
    return this.#source.metadata ?? {};
  }

  /** Returns the sizes of a tensor, outermost first, without reading it. Throws as {@link getTensor}. */
  getShape(name: string): readonly number[] {
    return this.#find(name).shape;
  }

  /** Returns how many dimensions a tensor has, without reading it. Throws as {@link getTensor}. */
  getNdim(name: string): number {
    return this.#find(name).shape.length;
  }

  /** Returns the dtype of a tensor, without reading it. Throws as {@link getTensor}. */
  getDtype(name: string): DType {
    return this.#find(name).dtype;
  }

  /**
   * Returns a tensor with its bytes, little-endian, row-major.
   *
   * @throws RangeError for a name that is not in the model, with the nearest one; Error if the file
   *   cannot be read, or after {@link close}.
   */
  getTensor(name: string): Tensor {
    const tensor = this.#find(name);
    return this.#loaded.get(name) ?? this.#read(tensor);
  }

  /**
   * Lets go of the bytes of a tensor that was preloaded; a later {@link getTensor} reads them again.
   * Nothing to do in low-memory mode, which keeps none. Throws as {@link getTensor}.
   */
  markProcessed(name: string): void {
    this.#find(name);
    this.#loaded.delete(name);
  }

  /** Closes the files and lets go of all tensors. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#loaded.clear();
    this.#reader.close();
  }

  /** Closes the files. */
  [Symbol.dispose](): void {
    this.close();
  }

  #read(tensor: SourceTensor): Tensor {
    const { name, dtype, shape } = tensor;
    return { name, dtype, shape, data: this.#reader.read(tensor) };
  }

  #find(name: string): SourceTensor {
    this.#checkOpen();
    const tensor = this.#tensors.get(name);
    if (tensor !== undefined) return tensor;
    const path = JSON.stringify(this.#source.path);
    const hint = this.#tensors.size === 0
      ? "it has no tensors"
      : `did you mean ${JSON.stringify(nearest(name, [...this.#tensors.keys()]))}?`;
    throw new RangeError(`No tensor ${JSON.stringify(name)} in ${path}: ${hint}`);
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new Error(
        `Cannot use the loader of ${JSON.stringify(this.#source.path)}: it is closed`,
      );
    }
  }
}
