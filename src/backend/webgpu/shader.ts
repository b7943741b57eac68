/** Parts of a compute shader: its source, its buffers and its parameters. Pure; needs no device. */

/** Types that a parameter may have. All take 4 bytes, so that `struct Params` has no padding. */
export type ParamType = "u32" | "i32" | "f32";

/** A compute shader. */
export interface Shader<P extends string = string> {
  /** Stem of its file; the label of what is made from it. */
  readonly name: string;
  /** WGSL, libraries included. */
  readonly code: string;
  /** The storage buffers, bindings 1, 2, ... of group 0; the parameters are binding 0. */
  readonly buffers: readonly ("read" | "write")[];
  /** `struct Params`, in order. */
  readonly params: Readonly<Record<P, ParamType>>;
  /** Features of the device that the code needs. */
  readonly features: readonly GPUFeatureName[];
}

/** A shader of `code` behind its libraries. */
export function shader<P extends string>(
  name: string,
  { code, libraries = [], buffers, params, features = [] }: {
    readonly code: string;
    readonly libraries?: readonly string[];
    readonly buffers: readonly ("read" | "write")[];
    readonly params: Readonly<Record<P, ParamType>>;
    readonly features?: readonly GPUFeatureName[];
  },
): Shader<P> {
  // `enable` directives must come before everything else.
  const lines = code.split("\n");
  const enables = lines.filter((line) => line.startsWith("enable "));
  const rest = lines.filter((line) => !line.startsWith("enable "));
  return {
    name,
    code: [...enables, ...libraries, rest.join("\n")].join("\n"),
    buffers,
    params,
    features,
  };
}

/** The bytes of `struct Params`. */
export function packParams<P extends string>(
  { params }: Shader<P>,
  values: Readonly<Record<P, number>>,
): Uint8Array<ArrayBuffer> {
  const names = Object.keys(params) as P[];
  const view = new DataView(new ArrayBuffer(4 * names.length));
  names.forEach((name, k) => {
    const value = values[name];
    if (params[name] === "f32") view.setFloat32(4 * k, value, true);
    else if (params[name] === "i32") view.setInt32(4 * k, value, true);
    else view.setUint32(4 * k, value, true);
  });
  return new Uint8Array(view.buffer);
}

/** Most workgroups that a dispatch may have in a dimension, on every device. */
const DIMENSION_MAX = 65535;

/**
 * Returns the two dimensions of a dispatch of at least `count` workgroups; shaders number them with
 * `workgroupIndex` and leave those beyond the end alone.
 */
export function dispatchSize(count: number): readonly [number, number] {
  if (count <= DIMENSION_MAX) return [count, 1];
  const rows = Math.ceil(count / DIMENSION_MAX);
  return [Math.ceil(count / rows), rows];
}

/** Bytes of a storage buffer for `bytes`: whole words, and never empty. */
export function bufferBytes(bytes: number): number {
  return Math.max(4, Math.ceil(bytes / 4) * 4);
}
