/**
 * The script of workers, beside this file. For the library only: a program that is one binary finds its
 * worker from its root module, and hands it down. `scripts/support/bundle.ts` replaces this file.
 */

export const WORKER_URL = new URL("./worker.ts", import.meta.url);
