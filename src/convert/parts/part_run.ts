/** One part of a conversion: whether it is finished, and what is written when it is. */

import type { Plan } from "../../plan/plan.ts";
import { UnsupportedError } from "../../core/errors.ts";
import { explain } from "../../presets/explain.ts";
import { fileSizeOf } from "../../safetensors/output_file.ts";
import { checksumsOf, removeIfThere } from "../../safetensors/part_files.ts";
import type { LayerResult } from "../layer_result.ts";
import { differences, type Fingerprint } from "../resume/fingerprint.ts";
import {
  type Manifest,
  plannedOf,
  portable,
  readManifest,
  wholeFiles,
  writeManifest,
} from "./manifest.ts";
import { manifestPath, type Part, partPath } from "./part.ts";

/** A part as asked for. */
export interface PartRequest extends Part {
  /** The arguments of the program, without `--part`: they make the other parts. */
  readonly command: readonly string[];
}

/** Result of a part. */
export interface PartResult extends Part {
  /** Path of its manifest. */
  readonly manifest: string;
  /** It was there, complete and made in the same way: nothing was done. */
  readonly wasFinished: boolean;
}

/** The files of one part. */
export class PartRun {
  /** Its safetensors file. */
  readonly path: string;
  readonly #manifest: string;
  readonly #part: PartRequest;
  readonly #made: Fingerprint;

  /**
   * @param output the whole output.
   * @param made of the whole conversion, before any value is read.
   */
  constructor(output: string, part: PartRequest, made: Fingerprint) {
    this.path = partPath(output, part);
    this.#manifest = manifestPath(output, part);
    this.#part = part;
    this.#made = portable(made);
  }

  /**
   * Returns the manifest if the part is finished; null if it is to be made.
   *
   * @throws UnsupportedError if it is there, made otherwise, and `force` is not set.
   */
  async finished({ force }: { force: boolean }): Promise<Manifest | null> {
    if (force) return null;
    const found = readManifest(this.#manifest);
    // A part without a manifest was killed before it was vouched for.
    if (found === null || fileSizeOf(this.path) === null) return null;
    const why = differences(found.made, this.#made);
    if (why.length > 0) {
      throw new UnsupportedError(
        `Cannot write ${JSON.stringify(this.path)}: it exists, and ${why.join("; ")}; ` +
          "`--force` replaces it",
      );
    }
    const last = found.tensors.at(-1);
    if (last !== undefined && fileSizeOf(this.path) !== last.offsetBytes + last.byteLength) {
      return null;
    }
    const sums = await checksumsOf(this.path, found.tensors);
    const isWhole = sums.every((blocks, i) =>
      blocks.every((sum, block) => sum === found.tensors[i]!.crc32[block])
    );
    return isWhole ? found : null;
  }

  /** To be called before the file of the part is replaced. */
  begin(): void {
    removeIfThere(this.#manifest);
  }

  /** Vouches for the part, whose file is complete under its name. */
  async end(
    { whole, own, layers, elapsedMs }: {
      whole: Plan;
      own: Plan;
      layers: readonly LayerResult[];
      elapsedMs: number;
    },
  ): Promise<void> {
    const { index, count, command } = this.#part;
    const sums = await checksumsOf(this.path, own.outputs);
    await writeManifest(this.#manifest, {
      index,
      count,
      made: this.#made,
      command,
      files: wholeFiles(whole),
      tensors: own.outputs.map(({ name, offsetBytes, byteLength }, i) => ({
        name,
        offsetBytes,
        byteLength,
        crc32: sums[i]!,
      })),
      model: explain(whole.detection, whole.choice),
      inputBytes: whole.totals.inputBytes,
      planned: plannedOf(own),
      layers,
      elapsedMs,
    });
  }

  /** Returns what is said of the part at the end. */
  result(wasFinished: boolean): PartResult {
    const { index, count } = this.#part;
    return { index, count, manifest: this.#manifest, wasFinished };
  }
}
