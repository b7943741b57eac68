/**
 * The files that this thread can name: those that were given to the page, at the root of an imaginary
 * disk, and the folder of the output. `web/node/fs.ts` looks them up here.
 */

import { BlobFile } from "./blob_file.ts";
import type { DiskDoor } from "./disk.ts";
import { createLink, type DiskLink, doorBehind } from "./disk_channel.ts";

/** The folder of the output. */
export const OUTPUT_FOLDER = "/output";

/** A file that was given to the page, under the path by which the program knows it. */
export interface GivenFile {
  readonly path: string;
  readonly blob: Blob;
  /** Time of its last change in milliseconds. */
  readonly timeMs: number;
}

/** Facts by which a thread knows all files. */
export interface FileAccess {
  readonly given: readonly GivenFile[];
  /** The way to the disk; null: there is none, as nothing is written. */
  readonly disk: DiskLink | null;
}

/** The first message to a thread of this program in a browser. */
export interface StartMessage {
  readonly start: FileAccess;
}

const given = new Map<string, GivenFile & { readonly file: BlobFile; readonly number: number }>();
let door: DiskDoor | null = null;
let connect: ((link: DiskLink) => void) | null = null;
let freeBytes = Infinity;

/** Makes the files known to this thread. */
export function mount(files: readonly GivenFile[], disk: DiskDoor | null): void {
  given.clear();
  for (const one of files) {
    given.set(one.path, { ...one, file: new BlobFile(one.blob), number: given.size + 1 });
  }
  door = disk;
}

/** Makes the files known that another thread has passed on. */
export function mountPassed({ given: files, disk }: FileAccess): void {
  mount(files, disk === null ? null : doorBehind(disk));
}

/** Says how threads that this one starts are connected with the disk, and how much fits on it. */
export function setDisk(
  { connect: how, free }: { connect: ((link: DiskLink) => void) | null; free: number },
): void {
  connect = how;
  freeBytes = free;
}

/** Returns what a thread gets that this one starts, and what of it must be transferred. */
export function accessForThread(): {
  readonly access: FileAccess;
  readonly transfer: MessagePort[];
} {
  const files = [...given.values()].map(({ path, blob, timeMs }) => ({ path, blob, timeMs }));
  if (connect === null) return { access: { given: files, disk: null }, transfer: [] };
  const { own, other } = createLink();
  connect(other);
  return { access: { given: files, disk: own }, transfer: [own.port] };
}

/** The file that was given under `path`; undefined: none. */
export function givenFile(
  path: string,
): (GivenFile & { file: BlobFile; number: number }) | undefined {
  return given.get(path);
}

/** Paths of all files that were given. */
export function givenPaths(): string[] {
  return [...given.keys()];
}

/** The way to the disk of the output; null: nothing is written in this run. */
export function diskDoor(): DiskDoor | null {
  return door;
}

/** Bytes that the browser says are free for the output. */
export function freeOutputBytes(): number {
  return freeBytes;
}
