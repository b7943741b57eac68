/** The parts of `node:timers/promises` that the program uses. */

export function setTimeout(delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    globalThis.setTimeout(resolve, delayMs);
  });
}
