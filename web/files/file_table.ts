/**
 * The files that this thread can name: those that were given to the page, at the root of an imaginary
 * disk, and the folder of the output. `web/node/fs.ts` looks them up here.
 */

import { BlobFile } from "./blob_file.ts";
import type { DiskDoor } from "./disk.ts";
import { createLink, type DiskBell, type DiskLink, doorBehind } from "./disk_channel.ts";
import type { SyncHandle } from "./output_store.ts";
import { openForThread, type StorePlace } from "./store_place.ts";
import { ReadAhead, type ReadAheadLink, type ReadAheadMemory } from "./read_ahead.ts";

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
  /** The output, if threads may open it themselves; null: the disk reads and writes it for all. */
  readonly output: StorePlace | null;
  /** The way to what is read ahead; null: each thread reads by itself. */
  readonly ahead: ReadAheadLink | null;
}

/** The first message to a thread of this program in a browser. */
export interface StartMessage {
  readonly start: FileAccess;
}

const given = new Map<string, GivenFile & { readonly file: BlobFile; readonly number: number }>();
let door: DiskDoor | null = null;
let disk: DiskConnection | null = null;
let freeBytes = Infinity;
let reader: FileReading | null = null;
let readAhead: ReadAhead | null = null;
let outputPlace: StorePlace | null = null;
let ownOutput: SyncHandle | null = null;

/** The thread that owns the disk, for the one that started it. */
export interface DiskConnection {
  readonly bell: DiskBell;
  /** As {@link FileAccess} has it. */
  readonly output: StorePlace | null;
  /** Takes the link of one more thread. */
  readonly connect: (link: DiskLink) => void;
}

/** The thread that reads files ahead, for the one that started it. */
export interface FileReading {
  readonly memory: ReadAheadMemory;
  /** Takes the port of one more thread. */
  readonly connect: (port: MessagePort) => void;
}

/** Makes the files known to this thread. */
export function mount(
  files: readonly GivenFile[],
  disk: DiskDoor | null,
  link: ReadAheadLink | null = null,
): void {
  given.clear();
  const ahead = readAhead = link === null ? null : new ReadAhead(link);
  for (const [i, one] of files.entries()) {
    const number = fileNumber(i);
    const file = new BlobFile(
      one.blob,
      ahead === null ? null : (view, position) => ahead.read(number, view, position),
    );
    given.set(one.path, { ...one, file, number });
  }
  door = disk;
}

/** Makes ready for a run whose bytes lie in `memory`, which is shared. */
export async function prepareRun(memory: WebAssembly.Memory): Promise<void> {
  readAhead?.expect(memory);
  closeOwnOutput();
  ownOutput = outputPlace === null ? null : await openForThread(outputPlace);
}

/** The output as this thread has opened it for the present run; null: the disk reads and writes it. */
export function ownOutputHandle(): SyncHandle | null {
  return ownOutput;
}

/** Ends what {@link prepareRun} has opened. */
export function closeOwnOutput(): void {
  ownOutput?.close();
  ownOutput = null;
}

/** The number by which all threads know file `index` of those that were given. */
export function fileNumber(index: number): number {
  return index + 1;
}

/** Makes the files known that another thread has passed on. */
export function mountPassed({ given: files, disk, output, ahead }: FileAccess): void {
  outputPlace = output;
  mount(files, disk === null ? null : doorBehind(disk), ahead);
}

/** Sets how threads that this one starts are connected with the disk, and how much fits on it. */
export function setDisk(
  { connection, free }: { connection: DiskConnection | null; free: number },
): void {
  disk = connection;
  freeBytes = free;
}

/** Returns one more thread's link to a disk. */
export function diskLink({ bell, connect }: DiskConnection): DiskLink {
  const link = createLink(bell);
  connect(link);
  return link;
}

/** Sets the thread that reads ahead, for the threads that this one starts. */
export function setReading(reading: FileReading | null): void {
  reader = reading;
}

/** Returns one more thread's way to what is read ahead. */
export function readingLink({ memory, connect }: FileReading): ReadAheadLink {
  const { port1, port2 } = new MessageChannel();
  connect(port2);
  return { memory, port: port1 };
}

/** Returns the access of a thread that this one starts, and the parts to be transferred. */
export function accessForThread(): {
  readonly access: FileAccess;
  readonly transfer: MessagePort[];
} {
  const files = [...given.values()].map(({ path, blob, timeMs }) => ({ path, blob, timeMs }));
  const ahead = reader === null ? null : readingLink(reader);
  return {
    access: {
      given: files,
      disk: disk === null ? null : diskLink(disk),
      output: disk?.output ?? null,
      ahead,
    },
    transfer: ahead === null ? [] : [ahead.port],
  };
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
