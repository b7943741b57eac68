/**
 * One backend under test, and the arrays a test gives it. Outputs are poisoned before the call, every
 * array has guard bytes on both sides and starts at an address that is no multiple of a vector, and
 * after the test guards and inputs must be as they were.
 *
 * Test bodies await every kernel call: those of the GPU are asynchronous. Without an adapter its tests
 * report as ignored.
 */

import assert from "node:assert/strict";
import type { Kernels } from "../../src/backend/backend.ts";
import { createSharedMemory } from "../../src/backend/cpu/arena.ts";
import { WasmKernels } from "../../src/backend/cpu/wasm_kernels.ts";
import { compileKernels } from "../../src/backend/cpu/wasm_module.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { WebGpuKernels } from "../../src/backend/webgpu/webgpu_kernels.ts";
import { testGpu } from "../support/gpu.ts";

/** {@link Kernels}, or the same with promises. */
export type TestedKernels = {
  readonly [K in Exclude<keyof Kernels, "name">]: (
    ...args: Parameters<Kernels[K]>
  ) => ReturnType<Kernels[K]> | Promise<ReturnType<Kernels[K]>>;
};

/** A backend: its kernels, and the buffer its arrays must lie in. */
interface Backend {
  readonly name: string;
  readonly kernels: TestedKernels;
  readonly buffer: ArrayBufferLike;
}

const TEST_BYTES = 8 << 20;

function wasmBackend(): Backend {
  const memory = createSharedMemory(TEST_BYTES);
  const kernels = new WasmKernels(compileKernels(), memory);
  return { name: "wasm", kernels, buffer: memory.buffer };
}

/** Every backend that the kernel tests run over. */
export const BACKENDS: readonly Backend[] = [
  { name: "reference", kernels: referenceKernels, buffer: new ArrayBuffer(TEST_BYTES) },
  wasmBackend(),
  ...(testGpu === null ? [] : [{
    name: "webgpu",
    kernels: new WebGpuKernels(testGpu),
    // A shared one, as the memory of conversions is.
    buffer: new SharedArrayBuffer(TEST_BYTES),
  }]),
];

export type NumberArray =
  | Float32Array
  | Float64Array
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Uint32Array
  | Int32Array;

const POISON = 0xa5;
const GUARD_BYTES = 64;

/** The arrays of one test on one backend. */
export class Subject {
  readonly kernels: TestedKernels;
  readonly #buffer: ArrayBufferLike;
  #top = 0;
  #skew = 0;
  readonly #guards: Uint8Array[] = [];
  readonly #inputs: { view: NumberArray; copy: Uint8Array }[] = [];

  constructor(backend: Backend) {
    this.kernels = backend.kernels;
    this.#buffer = backend.buffer;
  }

  /** A copy of `values` for a kernel to read. */
  input<T extends NumberArray>(values: T): T {
    const view = this.inOut(values);
    this.#inputs.push({ view, copy: bytesOf(view).slice() });
    return view;
  }

  /** A copy of `values` for a kernel to change. */
  inOut<T extends NumberArray>(values: T): T {
    const view = this.#take(values, values.length);
    view.set(values as never);
    return view;
  }

  /** A poisoned array of the type of `like`. */
  output<T extends NumberArray>(like: T, length: number): T {
    return this.#take(like, length);
  }

  /** Fails if a kernel wrote beside its output, or into an input. */
  verify(context: string): void {
    for (const guard of this.#guards) {
      assert(guard.every((byte) => byte === POISON), `${context}: wrote outside of its output`);
    }
    for (const { view, copy } of this.#inputs) {
      assert.deepEqual(bytesOf(view), copy, `${context}: changed an input`);
    }
  }

  #take<T extends NumberArray>(like: T, length: number): T {
    // A different distance from 16-byte alignment each time, always a multiple of the element.
    this.#skew = (this.#skew + 5) % 16;
    const start = this.#top + GUARD_BYTES + this.#skew * like.BYTES_PER_ELEMENT;
    const end = start + length * like.BYTES_PER_ELEMENT;
    const next = Math.ceil((end + GUARD_BYTES) / 64) * 64;
    assert(next <= this.#buffer.byteLength, "test arrays exceed the memory of the test");
    new Uint8Array(this.#buffer, this.#top, next - this.#top).fill(POISON);
    this.#guards.push(
      new Uint8Array(this.#buffer, this.#top, start - this.#top),
      new Uint8Array(this.#buffer, end, next - end),
    );
    this.#top = next;
    const Constructor = like.constructor as new (
      buffer: ArrayBufferLike,
      offset: number,
      length: number,
    ) => T;
    return new Constructor(this.#buffer, start, length);
  }
}

function bytesOf(view: NumberArray): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** Runs `body` on `backend` and then checks guards and inputs. */
export async function withSubject<T>(
  backend: Backend,
  context: string,
  body: (subject: Subject) => T | Promise<T>,
): Promise<T> {
  const subject = new Subject(backend);
  const result = await body(subject);
  subject.verify(`${backend.name}, ${context}`);
  return result;
}

/** Registers `name` as one test per backend. */
export function testEachBackend(
  name: string,
  body: (subject: Subject) => void | Promise<void>,
): void {
  for (const backend of BACKENDS) {
    Deno.test(`${name} [${backend.name}]`, () => withSubject(backend, name, body));
  }
  if (testGpu === null) Deno.test({ name: `${name} [webgpu]`, ignore: true, fn() {} });
}

/**
 * Runs `body` on every backend and fails if its results are not the same bits as those of the first
 * one, the reference. NaNs count as equal.
 */
export async function assertSameOnAllBackends(
  context: string,
  body: (subject: Subject) => Promise<readonly NumberArray[]>,
): Promise<void> {
  const [reference, ...others] = BACKENDS;
  // Copies: every subject starts at the beginning of its memory.
  const copies = async (subject: Subject) => (await body(subject)).map((array) => array.slice());
  const want = await withSubject(reference!, context, copies);
  for (const backend of others) {
    const got = await withSubject(backend, context, copies);
    want.forEach((array, k) => assertSameBits(got[k]!, array, `${backend.name}, ${context}`));
  }
}

/** Fails, naming index, want and got, if two arrays differ in a bit. NaNs count as equal. */
export function assertSameBits(got: NumberArray, want: NumberArray, context: string): void {
  assert.equal(got.length, want.length, `${context}: length`);
  for (let i = 0; i < want.length; i++) {
    if (!Object.is(got[i], want[i])) {
      assert.fail(`${context}: at ${i} want ${show(want[i]!)}, got ${show(got[i]!)}`);
    }
  }
}

function show(value: number): string {
  return Object.is(value, -0) ? "-0" : String(value);
}
