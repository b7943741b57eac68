/**
 * The linear algebra backends under test, on the guarded and poisoned arrays of `../subject.ts`: those of
 * the CPU, and for the kernels that a GPU runs all devices, whose test bodies await every call. Without an
 * adapter the tests of the GPU report as ignored.
 */

import {
  Arena,
  createSharedMemory,
  LINALG_WORKSPACE_BYTES,
} from "../../../src/backend/cpu/arena.ts";
import { compileLinalg } from "../../../src/backend/cpu/linalg_module.ts";
import { WasmLinalg } from "../../../src/backend/cpu/wasm_linalg.ts";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import {
  type AsyncLinalg,
  type GpuLinalgName,
  WebGpuLinalg,
} from "../../../src/backend/webgpu/webgpu_linalg.ts";
import type { LinalgKernels } from "../../../src/linalg/linalg_kernels.ts";
import { type Matrix, matrix, transpose } from "../../../src/linalg/matrix.ts";
import { testGpu } from "../../support/gpu.ts";
import { assertSameBits, type NumberArray, Subject } from "../subject.ts";

interface LinalgBackend {
  readonly name: string;
  readonly linalg: LinalgKernels;
  readonly buffer: ArrayBufferLike;
}

/** Bytes for the arrays of a test; the workspace of the WASM kernels comes after them. */
const TEST_BYTES = 16 << 20;

function wasmBackend(): LinalgBackend {
  const memory = createSharedMemory(TEST_BYTES + LINALG_WORKSPACE_BYTES + 64);
  const workspace = new Arena(memory, TEST_BYTES, LINALG_WORKSPACE_BYTES + 64);
  const linalg = new WasmLinalg(compileLinalg(), workspace);
  return { name: "wasm", linalg, buffer: memory.buffer };
}

/** Every backend that the linear algebra tests run over, the reference first. */
export const LINALG_BACKENDS: readonly LinalgBackend[] = [
  { name: "reference", linalg: referenceLinalg, buffer: new ArrayBuffer(TEST_BYTES) },
  wasmBackend(),
];

type Body<T> = (linalg: LinalgKernels, subject: Subject) => T;

function withSubject<T>(backend: LinalgBackend, context: string, body: Body<T>): T {
  const arrays = { name: backend.name, kernels: referenceKernels, buffer: backend.buffer };
  const subject = new Subject(arrays);
  const result = body(backend.linalg, subject);
  subject.verify(`${backend.name}, ${context}`);
  return result;
}

/** Registers `name` as one test per backend. */
export function testEachLinalg(name: string, body: Body<void>): void {
  for (const backend of LINALG_BACKENDS) {
    Deno.test(`${name} [${backend.name}]`, () => withSubject(backend, name, body));
  }
}

/** Fails if a backend gives other bits than the reference. NaNs count as equal. */
export function assertSameOnAllLinalg(context: string, body: Body<readonly NumberArray[]>): void {
  const copies: Body<NumberArray[]> = (linalg, subject) =>
    body(linalg, subject).map((array) => array.slice());
  const [reference, ...others] = LINALG_BACKENDS;
  const want = withSubject(reference!, context, copies);
  for (const backend of others) {
    const got = withSubject(backend, context, copies);
    want.forEach((array, k) => assertSameBits(got[k]!, array, `${backend.name}, ${context}`));
  }
}

/** The kernels that all devices have; those of a GPU give promises. */
export type TestedLinalg = {
  readonly [K in GpuLinalgName]: (
    ...args: Parameters<AsyncLinalg[K]>
  ) => ReturnType<LinalgKernels[K]> | Promise<ReturnType<LinalgKernels[K]>>;
};

interface Device {
  readonly name: string;
  readonly linalg: TestedLinalg;
  readonly buffer: ArrayBufferLike;
}

/** Every device that runs {@link TestedLinalg}, the reference first. */
export const DEVICES: readonly Device[] = [
  ...LINALG_BACKENDS,
  ...(testGpu === null ? [] : [{
    name: "webgpu",
    linalg: new WebGpuLinalg(testGpu),
    // A shared one, as the memory of conversions is.
    buffer: new SharedArrayBuffer(TEST_BYTES),
  }]),
];

type DeviceBody<T> = (linalg: TestedLinalg, subject: Subject) => T | Promise<T>;

async function onDevice<T>(device: Device, context: string, body: DeviceBody<T>): Promise<T> {
  const { name, buffer } = device;
  const subject = new Subject({ name, kernels: referenceKernels, buffer });
  const result = await body(device.linalg, subject);
  subject.verify(`${name}, ${context}`);
  return result;
}

/** Registers `name` as one test per device. */
export function testEachDevice(name: string, body: DeviceBody<void>): void {
  for (const device of DEVICES) {
    Deno.test(`${name} [${device.name}]`, () => onDevice(device, name, body));
  }
  if (testGpu === null) Deno.test({ name: `${name} [webgpu]`, ignore: true, fn() {} });
}

/** Fails if `got` is not what it should be, given the `want` of the reference. */
export type Comparison = (got: NumberArray, want: NumberArray, context: string) => void;

/**
 * Fails if a backend of the CPU gives other bits than the reference, or a GPU something that `compare`
 * refuses: other bits, unless a kernel is only *close* there. NaNs count as equal.
 */
export async function assertSameOnAllDevices(
  context: string,
  body: DeviceBody<readonly NumberArray[]>,
  compare: Comparison = assertSameBits,
): Promise<void> {
  const copies: DeviceBody<NumberArray[]> = async (linalg, subject) =>
    (await body(linalg, subject)).map((array) => array.slice());
  const [reference, ...others] = DEVICES;
  const want = await onDevice(reference!, context, copies);
  for (const device of others) {
    const got = await onDevice(device, context, copies);
    const check = device.name === "webgpu" ? compare : assertSameBits;
    want.forEach((array, k) => check(got[k]!, array, `${device.name}, ${context}`));
  }
}

/** How a matrix of a test lies in its array. */
export interface Place {
  /** Columns beside those of the matrix. */
  readonly gap: number;
  readonly transposed: boolean;
}

/** Number of elements that a `rows x cols` matrix takes at `place`. */
export function placedLength(rows: number, cols: number, place: Place): number {
  const [height, width] = place.transposed ? [cols, rows] : [rows, cols];
  return height * (width + place.gap);
}

/** Returns `data`, of {@link placedLength}, as a `rows x cols` matrix. */
export function placed<Data>(
  data: Data,
  rows: number,
  cols: number,
  place: Place,
): Matrix<Data> {
  const [height, width] = place.transposed ? [cols, rows] : [rows, cols];
  const m = matrix(data, height, width, width + place.gap);
  return place.transposed ? transpose(m) : m;
}
