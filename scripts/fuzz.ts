/**
 * Feeds damaged headers, indexes and markers to their readers: `deno task fuzz`.
 *
 * Every outcome must be a valid result, whose invariants are then checked, or a FormatError (for a
 * marker: a recorded problem). Any other exception, a broken invariant, a slow case or a hang fails.
 *
 * Options: `--seconds N` (20), `--seed N` (of the clock, printed), `--case N` (only that case of the
 * seed, verbosely). A case depends on the seed and its number alone.
 */

import assert from "node:assert/strict";
import process from "node:process";
import { parseArgs } from "node:util";
import { FormatError } from "../src/core/errors.ts";
import { byteLength } from "../src/core/shape.ts";
import type { TensorInfo } from "../src/core/tensor.ts";
import { encodeHeader, type Header, LENGTH_BYTES, parseHeader } from "../src/safetensors/header.ts";
import { layoutTensors } from "../src/safetensors/layout.ts";
import { findQuantizedLayers } from "../src/formats/quant_layers.ts";
import { parseIndex } from "../src/safetensors/shards.ts";
import { damaged, Dice, displaced } from "./fuzz_damage.ts";

/** A case of a few kilobytes takes microseconds; this leaves room for a busy machine. */
const SLOW_MS = 2000;
const HANG_MS = 10_000;

const encoder = new TextEncoder();

const MARKER = '{"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 256}';

const BASES: readonly [readonly TensorInfo[], Record<string, string> | null][] = [
  [[], null],
  [[{ name: "a", dtype: "U8", shape: [3] }], { format: "pt" }],
  [
    [
      { name: "blocks.0.q.weight", dtype: "I8", shape: [2, 4] },
      { name: "blocks.0.q.weight_scale", dtype: "F32", shape: [2, 1] },
      { name: "blocks.0.q.comfy_quant", dtype: "U8", shape: [MARKER.length] },
      { name: "norm.weight", dtype: "BF16", shape: [4] },
      { name: "__x0__", dtype: "F16", shape: [0] },
    ],
    {
      _quantization_metadata: '{"layers":{"l":{"format":"float8_e4m3fn"}}}',
      "ключ": '\u{1f600}\\"',
    },
  ],
  [
    Array.from(
      { length: 20 },
      (_, i) => ({ name: `t${i}`, dtype: "F32" as const, shape: [i % 3] }),
    ),
    { __proto__: "", constructor: "x" },
  ],
];

const INDEX = JSON.stringify({
  metadata: { total_size: 123 },
  weight_map: { "a.weight": "m-1-of-2.safetensors", "b.weight": "m-2-of-2.safetensors" },
});

/** Returns the rule that refuses `action`'s input, or null if it is valid. */
function refusal(action: () => void): string | null {
  try {
    action();
    return null;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    assert(error.offsetBytes === undefined || error.offsetBytes >= 0, error.message);
    // One line each in the summary, whatever names and numbers it is about.
    return error.rule.replaceAll(/"(?:\\.|[^"\\])*(?:"|\.\.\.)/g, '"..."').replaceAll(
      /\[[^\]]*\]/g,
      "[...]",
    )
      .replaceAll(/0x\w+|\b-?\d[\d.e+]*/g, "N").replace(/(not valid JSON): .*/s, "$1");
  }
}

function withLength(json: Uint8Array): Uint8Array {
  const start = new Uint8Array(LENGTH_BYTES + json.length);
  new DataView(start.buffer).setBigUint64(0, BigInt(json.length), true);
  start.set(json, LENGTH_BYTES);
  return start;
}

function fuzzHeader(dice: Dice): string | null {
  const [tensors, metadata] = dice.pick(BASES);
  const { header, totalBytes } = layoutTensors(tensors, metadata);
  const dataBytes = totalBytes - header.length;
  const json = header.subarray(LENGTH_BYTES);
  const start = dice.roll(8) === 0
    ? damaged(header, dice) // the length bytes too
    // The length kept right, so that the damage is met beyond the first rules.
    : withLength(dice.roll(3) === 0 ? displaced(json, dice) : damaged(json, dice));
  const file = new Uint8Array(start.length + dice.pick([dataBytes, dataBytes, 0, dataBytes + 1]));
  file.set(start);
  const fileBytes = file.length;
  return refusal(() => checkHeader(parseHeader(file, { path: "f", fileBytes }), fileBytes));
}

/** Properties of every header that is accepted. */
function checkHeader({ tensors, metadata, dataOffsetBytes }: Header, fileBytes: number): void {
  let end = dataOffsetBytes;
  for (const tensor of tensors) {
    assert.equal(tensor.offsetBytes, end);
    assert.equal(tensor.byteLength, byteLength(tensor.dtype, tensor.shape));
    end += tensor.byteLength;
  }
  assert.equal(end, fileBytes);
  const again = encodeHeader(
    tensors.map(({ name, dtype, shape, offsetBytes, byteLength }) => {
      const begin = offsetBytes - dataOffsetBytes;
      return { name, dtype, shape, begin, end: begin + byteLength };
    }),
    metadata,
  );
  const shift = again.length - dataOffsetBytes;
  const read = parseHeader(again, { path: "f", fileBytes: fileBytes + shift });
  assert.deepEqual(read.metadata, metadata);
  assert.deepEqual(
    new Set(read.tensors.map(({ name }) => name)),
    new Set(tensors.map((t) => t.name)),
  );
}

function fuzzIndex(dice: Dice): string | null {
  return refusal(() => {
    const { weightMap, files } = parseIndex(damaged(encoder.encode(INDEX), dice), "f");
    for (const [name, file] of weightMap) {
      assert(typeof name === "string" && files.includes(file));
      assert.doesNotMatch(file, /[/\\\0]/);
    }
  });
}

function fuzzMarker(dice: Dice): string | null {
  const bytes = damaged(encoder.encode(MARKER), dice);
  const place = { file: 0, offsetBytes: 0 };
  const layers = findQuantizedLayers({
    path: "f",
    paths: ["f"],
    tensors: [
      { name: "l.weight", dtype: "I8", shape: [2, 2], byteLength: 4, ...place },
      {
        name: "l.comfy_quant",
        dtype: "U8",
        shape: [bytes.length],
        byteLength: bytes.length,
        ...place,
      },
    ],
    metadata: { _quantization_metadata: new TextDecoder().decode(damaged(bytes, dice)) },
    inputBytes: 4 + bytes.length,
  }, () => bytes);
  assert.equal(layers.length, 1);
  const { marker, format, problem } = layers[0]!;
  assert(marker !== null || problem !== null);
  assert(format !== null || problem !== null);
  return problem === null ? null : "a marker with a problem";
}

/** Runs one case; returns the rule that refused it, or null. */
function runCase(seed: number, caseNumber: number): string | null {
  const dice = new Dice(seed, caseNumber);
  const target = dice.pick([fuzzHeader, fuzzHeader, fuzzHeader, fuzzHeader, fuzzIndex, fuzzMarker]);
  const start = performance.now();
  const outcome = target(dice);
  const elapsedMs = performance.now() - start;
  assert(elapsedMs < SLOW_MS, `the case took ${elapsedMs.toFixed(0)} ms`);
  return outcome;
}

/** Ends the process from another thread if no case ends for a while. */
function startWatchdog(progress: Int32Array, seed: number): Worker {
  const source = `
    import process from "node:process";
    onmessage = ({ data: { progress, seed } }) => {
      let last = -1;
      setInterval(() => {
        const now = Atomics.load(progress, 0);
        if (now === last) {
          console.error("case " + now + " hangs: --seed " + seed + " --case " + now);
          process.kill(process.pid, "SIGKILL");
        }
        last = now;
      }, ${HANG_MS});
    };`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const watchdog = new Worker(url, { type: "module" });
  watchdog.postMessage({ progress, seed });
  return watchdog;
}

function main(): void {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "20" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      case: { type: "string" },
    },
  });
  const seconds = Number(values.seconds);
  const seed = Number(values.seed);
  if (values.case !== undefined) {
    console.log(runCase(seed, Number(values.case)) ?? "valid");
    return;
  }
  console.log(`fuzzing for ${seconds} s with --seed ${seed}`);
  const progress = new Int32Array(new SharedArrayBuffer(4));
  const watchdog = startWatchdog(progress, seed);
  const outcomes = new Map<string, number>();
  const end = performance.now() + seconds * 1000;
  let caseNumber = 0;
  for (; performance.now() < end; caseNumber++) {
    Atomics.store(progress, 0, caseNumber);
    try {
      const outcome = runCase(seed, caseNumber) ?? "valid";
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    } catch (error) {
      console.error(`case ${caseNumber} fails: --seed ${seed} --case ${caseNumber}`);
      console.error(error);
      process.exitCode = 1;
      break;
    }
  }
  watchdog.terminate();
  for (const [outcome, count] of [...outcomes].sort(([, a], [, b]) => b - a)) {
    console.log(`${String(count).padStart(9)}  ${outcome}`);
  }
  const verdict = process.exitCode === 1 ? "FAILED" : "ok";
  console.log(`${verdict}: ${caseNumber} cases, ${outcomes.size} kinds of outcome`);
}

main();
