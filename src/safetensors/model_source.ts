/**
 * A model as one set of tensors, whether it lies in one safetensors file or in shards.
 * Only headers are read here; values are read where they are used, by offset.
 */

import type { SourceTensor, Tensors } from "../core/tensor.ts";
import type { InputPath } from "../remote/input_path.ts";
import type { FileStamp } from "./input_watch.ts";

/** The headers of a model. */
export interface ModelSource {
  /** The path as the user named it: a file, a folder or an index. */
  readonly path: string;
  /** The safetensors files, in the order that `SourceTensor.file` counts. */
  readonly paths: readonly InputPath[];
  /** All tensors, in file order, then in offset order. A table makes them anew each time. */
  readonly tensors: Tensors<SourceTensor>;
  /** The `__metadata__` map: of the one file, or of all shards merged; null if there is none. */
  readonly metadata: Readonly<Record<string, string>> | null;
  /** Size of all files together. */
  readonly inputBytes: number;
  /** The local files as they were when their headers were read. Absent: none is local. */
  readonly stamps?: readonly FileStamp[];
  /**
   * Throws if a file on a server has changed since it was opened; to be called before an output gets its name.
   * Absent: every answer of the server tells.
   */
  readonly secondLook?: () => Promise<void>;
}
