/**
 * The conditions under which a run continues the output of another one: the same inputs, program, device, and all
 * work to be done. Everything that changes bytes is in the tasks and the header, so options count
 * through them; they are kept to say what differs.
 */

import { bytesOf } from "../../core/bytes.ts";
import { createHash } from "node:crypto";
import type { InputIdentity } from "../../safetensors/input_identity.ts";
import type { Work } from "../../run/make_tasks.ts";
import type { ConvertOptions } from "../../plan/options.ts";
import type { Plan } from "../../plan/plan.ts";

/** The fingerprint of a run. Plain JSON. */
export interface Fingerprint {
  /** Version and kernels. */
  readonly program: string;
  /** The device that computes. */
  readonly device: string;
  readonly inputs: readonly InputIdentity[];
  /** Hash of everything that is to be written and how. */
  readonly work: string;
  /** By name, as JSON text. */
  readonly options: Readonly<Record<string, string>>;
}

/** Arrays above this are distinguished by their length: they come from files, which have identities. */
const HASHED_BYTES = 1 << 20;

/** Returns the fingerprint of a run. */
export function fingerprintOf(
  { plan, work, options, ...rest }: Pick<Fingerprint, "program" | "device" | "inputs"> & {
    plan: Pick<Plan, "parts">;
    work: Work;
    options: ConvertOptions;
  },
): Fingerprint {
  const hash = createHash("sha256");
  for (const { header, totalBytes } of plan.parts) hash.update(header).update(`${totalBytes}`);
  for (const { bytes, offsetBytes } of work.inline) hash.update(`${offsetBytes}`).update(bytes);
  // One by one: as one text a hundred thousand of them have a hundred megabytes.
  for (const task of work.tasks) hash.update(plainJson(task));
  const texts = Object.entries(options).map(([name, value]) => [name, plainJson(value)] as const);
  return { ...rest, work: hash.digest("hex"), options: Object.fromEntries(texts) };
}

/** Returns JSON in which patterns are text and arrays of numbers their hash or length. */
function plainJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (inner instanceof RegExp) return String(inner);
    if (inner instanceof Map || inner instanceof Set) return [...inner];
    if (!ArrayBuffer.isView(inner)) return inner;
    const bytes = bytesOf(inner);
    return bytes.length > HASHED_BYTES
      ? `${bytes.length} bytes`
      : createHash("sha256").update(bytes).digest("hex");
  }) ?? "";
}

/** Most options that a message names. */
const NAMED_OPTIONS = 4;

/** Returns what differs between a run of before and this one, for people; empty if nothing does. */
export function differences(before: Fingerprint, now: Fingerprint): string[] {
  const found: string[] = [];
  if (before.program !== now.program) {
    found.push(`it was made by ${before.program}, this is ${now.program}`);
  }
  if (before.device !== now.device) {
    found.push(`it was computed on ${before.device}, now on ${now.device}`);
  }
  found.push(...inputDifferences(before.inputs, now.inputs));
  if (before.work === now.work || found.length > 0) return found;
  const changed = Object.keys(now.options).filter((name) =>
    before.options[name] !== now.options[name]
  );
  if (changed.length === 0) return ["what is to be written differs"];
  const named = changed.slice(0, NAMED_OPTIONS).map((name) =>
    `${name} was ${before.options[name] ?? "not there"}, is ${now.options[name]}`
  );
  return [...named, ...(changed.length > NAMED_OPTIONS ? ["more options differ"] : [])];
}

function inputDifferences(
  before: readonly InputIdentity[],
  now: readonly InputIdentity[],
): string[] {
  const places = (inputs: readonly InputIdentity[]) => inputs.map(({ place }) => place).join(", ");
  if (places(before) !== places(now)) {
    return [`it was made from ${places(before)}, now from ${places(now)}`];
  }
  return now.flatMap(({ place, bytes, version }, i) => {
    const old = before[i]!;
    return old.bytes === bytes && old.version === version ? [] : [`${place} has changed since`];
  });
}
