/** How matrices are stored on the device. All arithmetic is f32; `wgsl/lib/operand.wgsl` reads them. */

/** The ways, in the order of the constants there. F16 needs no feature of the device. */
export const STORAGES = Object.freeze(["f32", "f16"] as const);

export type Storage = (typeof STORAGES)[number];

/** Bytes of a number. */
export function storageBytes(storage: Storage): number {
  return storage === "f32" ? 4 : 2;
}

/** The constants for a shader of how its operands are stored, as text to stand before its own. */
export function storageConstants(storages: Readonly<Record<string, Storage>>): string {
  return Object.entries(storages)
    .map(([name, storage]) => `const ${name} = ${STORAGES.indexOf(storage)}u;\n`)
    .join("");
}
