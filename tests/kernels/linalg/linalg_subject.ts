/** The linear algebra backends under test, on the guarded and poisoned arrays of `../subject.ts`. */

import { Arena, createSharedMemory } from "../../../src/backend/cpu/arena.ts";
import { compileLinalg } from "../../../src/backend/cpu/linalg_module.ts";
import { LINALG_WORKSPACE_BYTES, WasmLinalg } from "../../../src/backend/cpu/wasm_linalg.ts";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import type { LinalgKernels } from "../../../src/linalg/linalg_kernels.ts";
import { type Matrix, matrix, transpose } from "../../../src/linalg/matrix.ts";
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

/** Fails where a backend gives other bits than the reference. NaNs count as equal. */
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
