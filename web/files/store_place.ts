/** Destination of an output, in a form that threads can send, and how it is opened. */

import {
  MemoryStore,
  openPrivate,
  type OutputStore,
  PickedStore,
  PrivateStore,
  type SyncHandle,
} from "./output_store.ts";

/** Plain data, and what browsers can send. */
export type StorePlace =
  /** The browser's own storage, in a folder of this name that belongs to this conversion. */
  | { readonly kind: "private"; readonly folder: string }
  /** A file that a person picked, written as it comes. */
  | { readonly kind: "picked"; readonly handle: FileSystemFileHandle }
  /** Memory, for small outputs. */
  | { readonly kind: "memory" };

/** The folder in the browser's own storage that holds the folders of all conversions. */
export const PRIVATE_FOLDER = "quantsmith";

/** Most bytes of an output that is kept in memory. */
export const MEMORY_MOST_BYTES = 512e6;

/** Returns the folder of one conversion in the browser's own storage. */
export async function privateFolder(name: string): Promise<FileSystemDirectoryHandle> {
  const root = await navigator.storage.getDirectory();
  const all = await root.getDirectoryHandle(PRIVATE_FOLDER, { create: true });
  return await all.getDirectoryHandle(name, { create: true });
}

/** The name of the output in such a folder. */
const PRIVATE_NAME = "output";

/**
 * Opens the output at `place` for one more thread, which then asks nobody to read and write it; null if
 * this place, or this browser, has one thread do that for all.
 */
export async function openForThread(place: StorePlace): Promise<SyncHandle | null> {
  if (place.kind !== "private") return null;
  try {
    const folder = await privateFolder(place.folder);
    return await openPrivate(await folder.getFileHandle(PRIVATE_NAME));
  } catch {
    return null;
  }
}

/** Opens a store at `place`. Throws Error if the browser refuses. */
export async function openStore(place: StorePlace): Promise<OutputStore> {
  switch (place.kind) {
    case "private":
      return await PrivateStore.create(await privateFolder(place.folder), PRIVATE_NAME);
    case "picked":
      return await PickedStore.create(place.handle);
    case "memory":
      return new MemoryStore(MEMORY_MOST_BYTES);
  }
}
