/**
 * WebGPU for Node, which has none of its own: the npm package `webgpu` (Dawn, as in Chrome), if people have
 * installed it. It is not installed as a dependency, as it holds the builds for all systems, 130 MB.
 */

import process from "node:process";

/** The package. Not a constant to the eyes of a bundler, which must leave the import as it is. */
const PACKAGE: string = "webgpu";

/** Exports of the package. */
export interface Dawn {
  create(options: readonly string[]): GPU;
  readonly globals: Readonly<Record<string, unknown>>;
}

/** Whether views of shared memory must be copied first: Deno takes them as they are, Dawn crashes on them. */
let copiesShared = !("Deno" in globalThis);

/** The runtime's WebGPU; null if it has none. */
export function ownWebGpu(): GPU | null {
  return (globalThis.navigator as Navigator | undefined)?.gpu ?? null;
}

/**
 * Returns the WebGPU of this thread. On Node that is the package's from the first call on, with the globals
 * that belong to it; null if there is neither.
 */
export async function provideWebGpu(): Promise<GPU | null> {
  const own = ownWebGpu();
  if (own !== null || !isNode()) return own;
  let dawn: Dawn;
  try {
    dawn = await import(PACKAGE) as Dawn;
  } catch {
    return null; // not installed, or not for this system
  }
  return installDawn(dawn);
}

/** Makes `dawn` the WebGPU of this thread, with the globals that belong to it. */
export function installDawn(dawn: Dawn): GPU {
  copiesShared = true;
  Object.assign(globalThis, dawn.globals);
  const gpu = dawn.create([]);
  const navigator = globalThis.navigator as Navigator | undefined;
  if (navigator === undefined) {
    Object.defineProperty(globalThis, "navigator", { value: { gpu }, configurable: true });
  } else Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });
  return gpu;
}

function isNode(): boolean {
  const { bun, deno, node } = process.versions as Readonly<Record<string, string | undefined>>;
  return node !== undefined && bun === undefined && deno === undefined;
}

/**
 * Returns `view` as `writeBuffer` takes it: for shared memory that may be a copy.
 */
export function uploadable(view: ArrayBufferView): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = view;
  const bytes = new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
  const isShared = typeof SharedArrayBuffer !== "undefined" &&
    (buffer as ArrayBufferLike) instanceof SharedArrayBuffer;
  return isShared && copiesShared ? bytes.slice() : bytes;
}
