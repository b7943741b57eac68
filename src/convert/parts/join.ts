/**
 * Joins the parts of a conversion: the bytes that one machine writes. Every tensor is copied once, its
 * checksums tested on the way; the output appears when all of them held.
 */

import { basename, dirname, join } from "node:path";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import { parseHeader } from "../../safetensors/header.ts";
import type { PlacedTensor } from "../../safetensors/layout.ts";
import { fileSizeOf } from "../../safetensors/output_file.ts";
import { LockedOutput } from "../../safetensors/locked_output.ts";
import { placeOf } from "../../safetensors/output_place.ts";
import type { OutputSet } from "../../safetensors/output_set.ts";
import { namesIn, RangeCopier } from "../../safetensors/part_files.ts";
import type { OutputLayout, OutputPart } from "../../safetensors/shard_layout.ts";
import type { LayerResult } from "../layer_result.ts";
import { differences } from "../resume/fingerprint.ts";
import { type Manifest, type PartPlanned, type PartTensor, readManifest } from "./manifest.ts";
import { manifestPath, type Part, partPath, stemOf } from "./part.ts";

/** Parameters of a join. */
export interface JoinRequest {
  /** The whole output, as the parts were asked for. */
  readonly output: string;
  /** Replace an existing output. */
  readonly force: boolean;
  /** First word of the command that makes a part. */
  readonly program: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** Result of a join. */
export interface JoinResult {
  readonly output: string;
  readonly outputBytes: number;
  readonly parts: number;
  /** The name of the model that was converted. */
  readonly input: string;
  /** Its size. */
  readonly inputBytes: number;
  /** What it is, in words. */
  readonly model: string;
  /** The arguments of the program that made a part, without `--part`. */
  readonly command: readonly string[];
  /** All tensors of the input. */
  readonly planned: readonly PartPlanned[];
  /** Quantized layers, in the order of the output. */
  readonly layers: readonly LayerResult[];
}

/**
 * Joins the parts beside `request.output`.
 *
 * @throws UnsupportedError if parts are missing, or were made in another way than the others; FormatError
 *   if a tensor of a part is not what its manifest says; Error if reading or writing fails.
 */
export async function joinParts(request: JoinRequest): Promise<JoinResult> {
  const { output, force } = request;
  const manifests = findParts(request);
  const layout = layoutOf(manifests[0]!, request);
  const sources = new Map<string, TensorPlace>();
  for (const part of manifests) {
    const path = partPath(output, part);
    for (const tensor of part.tensors) sources.set(tensor.name, { path, tensor, part });
  }
  for (const { name } of layout.entries) {
    if (sources.has(name)) continue;
    throw new UnsupportedError(
      `Cannot join ${JSON.stringify(output)}: no part holds tensor ${JSON.stringify(name)}`,
    );
  }
  using locked = await LockedOutput.create(output, layout, { force });
  const { set } = locked;
  await copyTensors(request, { set, layout, sources });
  await locked.commit();
  const order = new Map(layout.entries.map(({ name }, i) => [name, i]));
  const layers = manifests.flatMap(({ layers }) => layers)
    .sort((a, b) => order.get(a.name)! - order.get(b.name)!);
  const { made, model, command, inputBytes } = manifests[0]!;
  return {
    output: set.path,
    outputBytes: layout.totalBytes,
    parts: manifests.length,
    input: made.inputs[0]!.place,
    inputBytes,
    model,
    command,
    planned: manifests.flatMap(({ planned }) => planned),
    layers,
  };
}

/** A tensor of a part and where it lies. */
interface TensorPlace {
  readonly path: string;
  readonly tensor: PartTensor;
  readonly part: Manifest;
}

/** Copies all tensors in the order of the output. */
async function copyTensors(
  request: JoinRequest,
  { set, layout, sources }: {
    set: OutputSet;
    layout: OutputLayout;
    sources: ReadonlyMap<string, TensorPlace>;
  },
): Promise<void> {
  await using copier = new RangeCopier();
  let done = 0;
  for (const { name, offsetBytes, byteLength } of layout.entries) {
    const { path, tensor, part } = sources.get(name)!;
    // Empty tensors may lie at the very end of a file.
    const place = set
      .places[placeOf(set.places, byteLength === 0 ? offsetBytes - 1 : offsetBytes)]!;
    const damagedAt = tensor.byteLength !== byteLength
      ? tensor.offsetBytes
      : await copier.copy(path, tensor, {
        target: place.path,
        position: offsetBytes - place.startBytes,
        signal: request.signal,
      });
    if (damagedAt !== null) {
      throw new FormatError("its bytes are not those that were written: the checksum differs", {
        path,
        tensor: name,
        offsetBytes: damagedAt,
        hint: `make part ${part.index} again: ${commandOf(request, part, part.index, true)}`,
      });
    }
    done += byteLength;
    request.onProgress?.(done, layout.totalBytes);
  }
}

/** Returns the manifests of all parts, in order. */
function findParts(request: JoinRequest): Manifest[] {
  const { output } = request;
  const folder = dirname(output), stem = basename(stemOf(output));
  const names = namesIn(folder);
  const sets = new Map<number, Set<number>>();
  for (const name of names) {
    if (!name.startsWith(`${stem}.part-`)) continue;
    const found = /^\.part-(\d+)-of-(\d+)\.json$/.exec(name.slice(stem.length));
    if (found === null) continue;
    const part: Part = { index: Number(found[1]), count: Number(found[2]) };
    if (fileSizeOf(partPath(join(folder, stem), part)) === null) continue;
    sets.set(part.count, (sets.get(part.count) ?? new Set()).add(part.index));
  }
  if (sets.size === 0) {
    throw new UnsupportedError(
      `Cannot join ${JSON.stringify(output)}: no finished part of it lies in ` +
        `${
          JSON.stringify(folder)
        }; \`${request.program} MODEL ${output} --part 1/N\` makes the first`,
    );
  }
  const whole = [...sets].filter(([count, indices]) => indices.size === count);
  if (whole.length > 1) {
    const counts = whole.map(([count]) => count).join(" and of ");
    throw new UnsupportedError(
      `Cannot join ${
        JSON.stringify(output)
      }: there are all parts of ${counts}; remove those of one`,
    );
  }
  const [count, indices] = whole[0] ?? [...sets].sort((a, b) => b[1].size - a[1].size)[0]!;
  const manifests = [...indices].sort((a, b) => a - b)
    .map((index) => readManifest(manifestPath(output, { index, count }))!);
  const reference = mostCommon(manifests);
  refuseStale(request, manifests, reference);
  const missing = Array.from({ length: count }, (_, i) => i + 1).filter((i) => !indices.has(i));
  if (missing.length > 0) {
    throw new UnsupportedError(
      `Cannot join ${JSON.stringify(output)}: ` +
        (missing.length === 1 ? "part " : "parts ") +
        `${missing.join(", ")} of ${count} ${missing.length === 1 ? "is" : "are"} missing: ` +
        missing.map((i) => commandOf(request, reference, i, false)).join(" ; "),
    );
  }
  return manifests;
}

/** The way most parts were made: what the others are judged by. */
function mostCommon(manifests: readonly Manifest[]): Manifest {
  const counts = new Map<string, { manifest: Manifest; count: number }>();
  for (const manifest of manifests) {
    const key = JSON.stringify([manifest.made, manifest.files]);
    const entry = counts.get(key) ?? { manifest, count: 0 };
    entry.count++;
    counts.set(key, entry);
  }
  return [...counts.values()].sort((a, b) => b.count - a.count)[0]!.manifest;
}

function refuseStale(
  request: JoinRequest,
  manifests: readonly Manifest[],
  reference: Manifest,
): void {
  const stale = manifests.flatMap((manifest) => {
    const why = differences(reference.made, manifest.made);
    const isSameFile = JSON.stringify(manifest.files) === JSON.stringify(reference.files);
    if (why.length === 0 && isSameFile) return [];
    return [{ manifest, why: why.length > 0 ? why : ["its output has another header"] }];
  });
  if (stale.length === 0) return;
  const told = stale.map(({ manifest, why }) =>
    `part ${manifest.index} differs from part ${reference.index}: ${
      why.join("; ")
    }; make it again: ` +
    commandOf(request, reference, manifest.index, true)
  );
  throw new UnsupportedError(
    `Cannot join ${JSON.stringify(request.output)}: ${told.join(". ")}`,
  );
}

/** The command that makes part `index` as `like` was made. */
function commandOf(
  { program }: JoinRequest,
  like: Manifest,
  index: number,
  force: boolean,
): string {
  const words = like.command.map((word) =>
    /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
  );
  const again = force && !words.includes("--force") ? ["--force"] : [];
  return [program, ...words, ...again, "--part", `${index}/${like.count}`].join(" ");
}

/** The files of the output, from the headers that the manifest holds. */
function layoutOf({ files, index, count }: Manifest, { output }: JoinRequest): OutputLayout {
  const path = manifestPath(output, { index, count });
  const parts: OutputPart[] = [], entries: PlacedTensor[] = [];
  let startBytes = 0;
  for (const { header, totalBytes } of files) {
    const bytes = new Uint8Array(Buffer.from(header, "base64"));
    const { tensors } = parseHeader(bytes, { path, fileBytes: totalBytes });
    parts.push({ header: bytes, startBytes, totalBytes, names: tensors.map(({ name }) => name) });
    for (const tensor of tensors) {
      entries.push({ ...tensor, offsetBytes: startBytes + tensor.offsetBytes });
    }
    startBytes += totalBytes;
  }
  return { parts, entries, totalBytes: startBytes };
}
