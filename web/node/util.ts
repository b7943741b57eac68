/** The parts of `node:util` that the program uses. */

type Callback = (error: unknown, value?: unknown) => void;

export function promisify(
  action: (...args: [...unknown[], Callback]) => void,
): (...args: unknown[]) => Promise<unknown> {
  return (...args) =>
    new Promise((resolve, reject) => {
      action(...args, (error, value) => error === null ? resolve(value) : reject(error));
    });
}

/** A page has styles of its own. */
export function styleText(_style: unknown, text: string): string {
  return text;
}

export const parseArgs = (): never => {
  throw new TypeError("Cannot parse arguments: a page has none");
};
