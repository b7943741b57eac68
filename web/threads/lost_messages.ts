/** Threads and messages that are lost: whoever waits for them must learn it. */

/** Why a thread does not work, if the browser does not say. */
export const NOT_STARTED = "the browser could not start a thread";

/** A message came, and the browser cannot make its objects: it lacks memory, for example. */
export const UNREADABLE = "the browser could not hand a message from one thread to another";

/** Makes this thread fail if a message to it cannot be read; its page is told of failures. */
export function throwOnLostMessages(): void {
  globalThis.addEventListener("messageerror", () => {
    throw new Error(UNREADABLE);
  });
}
