/**
 * Folders in the browser's own storage, one per conversion. A lock of the browser marks those in use:
 * it ends with the page, however the page ends, so that the next one can remove what was left.
 */

import { PRIVATE_FOLDER, privateFolder } from "./store_place.ts";

/** A folder that is in use. */
export interface ClaimedFolder {
  readonly name: string;
  /** Removes it with all it holds. Idempotent. */
  remove(): Promise<void>;
}

/** Returns a new folder; null if the browser has no storage for this page. */
export async function claimFolder(): Promise<ClaimedFolder | null> {
  const name = crypto.randomUUID();
  const lock = await hold(name);
  try {
    await privateFolder(name);
  } catch {
    lock.release();
    return null;
  }
  return {
    name,
    remove: async () => {
      await removeFolder(name);
      lock.release();
    },
  };
}

/** Removes the folders that no page uses any more. */
export async function removeLeftFolders(): Promise<void> {
  for (const name of await allFolders()) {
    await navigator.locks.request(lockName(name), { ifAvailable: true }, async (lock) => {
      if (lock !== null) await removeFolder(name);
    });
  }
}

async function allFolders(): Promise<string[]> {
  try {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle(PRIVATE_FOLDER);
    const names: string[] = [];
    for await (const name of (folder as unknown as { keys(): AsyncIterable<string> }).keys()) {
      names.push(name);
    }
    return names;
  } catch {
    return []; // there is no storage, or no conversion has been here
  }
}

/** A thread that was ended keeps its files open until it has ended; Chromium gives it two seconds. */
const REMOVE_TRIES = 80;
const RETRY_MS = 100;

async function removeFolder(name: string): Promise<void> {
  for (let i = 0; i < REMOVE_TRIES; i++) {
    try {
      const root = await navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle(PRIVATE_FOLDER);
      await folder.removeEntry(name, { recursive: true });
      return;
    } catch (error) {
      if ((error as Error).name === "NotFoundError") return;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  // The next page removes it.
}

/** Holds a lock until it is released or the page ends. */
async function hold(name: string): Promise<{ release(): void }> {
  let release = (): void => {};
  const released = new Promise<void>((resolve) => release = resolve);
  await new Promise<void>((resolve, reject) => {
    navigator.locks.request(lockName(name), () => {
      resolve();
      return released;
    }).catch(reject);
  });
  return { release };
}

function lockName(folder: string): string {
  return `quantsmith ${folder}`;
}
