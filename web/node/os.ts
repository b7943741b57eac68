/** The parts of `node:os` that the program uses. */

export function availableParallelism(): number {
  return navigator.hardwareConcurrency ?? 1;
}

export function tmpdir(): string {
  return "/";
}

export const cpus = (): never[] => [];
export const freemem = (): number => 0;
export const totalmem = (): number => 0;
export const constants = Object.freeze({ signals: {} });
