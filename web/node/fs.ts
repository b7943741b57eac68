/**
 * The parts of `node:fs` that the program uses, on files of a browser: the bundler puts this file in its
 * place. For workers only, as reads and writes block.
 */

import { resolve } from "./path.ts";
import type { DiskAnswer, DiskRequest, DiskStat } from "../files/disk.ts";
import {
  closeOwnOutput,
  diskDoor,
  freeOutputBytes,
  givenFile,
  givenPaths,
  OUTPUT_FOLDER,
  ownOutputHandle,
} from "../files/file_table.ts";
import { readPart, type SyncHandle, writeFully } from "../files/output_store.ts";
import { FileError } from "../files/random_access_file.ts";

/** As `fs.constants`; rights make no difference here. */
export const constants = Object.freeze({ F_OK: 0, R_OK: 4, W_OK: 2, X_OK: 1 });

interface Opened {
  readonly path: string;
  /** Number of a file of the disk; null: one that was given. */
  readonly file: number | null;
  /** The output, which this thread has open itself; null: the disk is asked. */
  readonly own: SyncHandle | null;
}

const opened = new Map<number, Opened>();
let lastFd = 2;

/** Options of the calls that look at a file. */
interface StatOptions {
  readonly bigint?: boolean;
  readonly throwIfNoEntry?: boolean;
}

/** As `fs.Stats`, and `fs.BigIntStats` if `isBig`. */
class Stats {
  readonly dev: number | bigint;
  readonly ino: number | bigint;
  readonly size: number | bigint;
  readonly mtimeMs: number | bigint;
  readonly mtimeNs: bigint;
  readonly #isFolder: boolean;

  constructor(
    { ino, size, timeMs, isFolder, isBig }: {
      ino: number;
      size: number;
      timeMs: number;
      isFolder: boolean;
      isBig: boolean;
    },
  ) {
    const number = (value: number) => isBig ? BigInt(Math.trunc(value)) : value;
    this.dev = number(1);
    this.ino = number(ino);
    this.size = number(size);
    this.mtimeMs = number(timeMs);
    this.mtimeNs = BigInt(Math.trunc(timeMs)) * 1_000_000n;
    this.#isFolder = isFolder;
  }

  isFile(): boolean {
    return !this.#isFolder;
  }

  isDirectory(): boolean {
    return this.#isFolder;
  }

  isSymbolicLink(): boolean {
    return false;
  }
}

export function openSync(path: string, flags = "r"): number {
  const place = absolute(path);
  const given = givenFile(place);
  if (given !== undefined) {
    if (flags !== "r") throw new FileError("EACCES");
    given.file.probe();
  } else if (isFolder(place)) {
    if (flags !== "r") throw new FileError("EISDIR");
  }
  const file = given !== undefined || isFolder(place)
    ? null
    : ask({ op: "open", path: place, flags }) as number;
  const handle = file === null ? null : ownOutputHandle();
  const own = handle !== null && ask({ op: "isOutput", file: file! }) === 1 ? handle : null;
  opened.set(++lastFd, { path: place, file, own });
  return lastFd;
}

export function closeSync(fd: number): void {
  const own = opened.get(fd)?.own ?? null;
  opened.delete(fd);
  if (own !== null && ![...opened.values()].some((each) => each.own !== null)) closeOwnOutput();
}

export function readSync(
  fd: number,
  view: Uint8Array,
  offset: number,
  length: number,
  position: number,
): number {
  const { path, file, own } = openedAs(fd);
  const part = view.subarray(offset, offset + length);
  if (own !== null) return readPart(own, part, position);
  if (file === null) return givenFile(path)!.file.read(part, position);
  return ask({ op: "read", file, view: part, position }) as number;
}

export function writeSync(
  fd: number,
  view: Uint8Array,
  offset: number,
  length: number,
  position: number,
): number {
  const { file, own } = openedAs(fd);
  if (file === null) throw new FileError("EACCES");
  const part = view.subarray(offset, offset + length);
  if (own === null) ask({ op: "write", file, view: part, position });
  else writeFully(own, part, position);
  return length;
}

export function ftruncateSync(fd: number, size: number): void {
  const { file } = openedAs(fd);
  if (file === null) throw new FileError("EACCES");
  ask({ op: "truncate", file, size });
}

export function fsyncSync(fd: number): void {
  const { file } = openedAs(fd);
  if (file !== null) ask({ op: "flush", file });
}

export function fsync(fd: number, done: (error: unknown) => void): void {
  try {
    fsyncSync(fd);
    done(null);
  } catch (error) {
    done(error);
  }
}

export function fstatSync(fd: number, options: StatOptions = {}): Stats {
  return statSync(openedAs(fd).path, options)!;
}

export function statSync(path: string, options: StatOptions = {}): Stats | undefined {
  const { bigint: isBig = false, throwIfNoEntry = true } = options;
  const place = absolute(path);
  if (isFolder(place)) return new Stats({ ino: 0, size: 0, timeMs: 0, isFolder: true, isBig });
  const given = givenFile(place);
  if (given !== undefined) {
    // A page knows the state of a file when it was chosen; only reading shows whether it has changed.
    given.file.probe();
    const { blob, timeMs, number } = given;
    return new Stats({ ino: number, size: blob.size, timeMs, isFolder: false, isBig });
  }
  const stat = diskDoor() === null ? null : ask({ op: "stat", path: place }) as DiskStat | null;
  if (stat !== null) {
    const { size, timeMs, file } = stat;
    return new Stats({ ino: 1_000_000 + file, size, timeMs, isFolder: false, isBig });
  }
  if (throwIfNoEntry) throw new FileError("ENOENT");
  return undefined;
}

export function lstatSync(path: string, options: StatOptions = {}): Stats | undefined {
  return statSync(path, options);
}

export function statfsSync(path: string): { bavail: number; bsize: number } {
  const isOutput = absolute(path) === OUTPUT_FOLDER;
  return { bavail: isOutput ? freeOutputBytes() : 0, bsize: 1 };
}

export function existsSync(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

export function accessSync(path: string): void {
  statSync(path);
}

export function renameSync(from: string, to: string): void {
  ask({ op: "rename", from: absolute(from), to: absolute(to) });
}

export function unlinkSync(path: string): void {
  ask({ op: "remove", path: absolute(path) });
}

export function rmSync(path: string, { force = false }: { force?: boolean } = {}): void {
  if (force && !existsSync(path)) return;
  unlinkSync(path);
}

export function utimesSync(path: string, _accessed: Date, changed: Date): void {
  ask({ op: "touch", path: absolute(path), timeMs: changed.getTime() });
}

export function readdirSync(path: string): string[] {
  const folder = absolute(path);
  const prefix = folder === "/" ? "/" : `${folder}/`;
  const inOutput = diskDoor() === null ? [] : ask({ op: "list" }) as readonly string[];
  return [...givenPaths(), ...inOutput]
    .filter((each) => each.startsWith(prefix) && !each.slice(prefix.length).includes("/"))
    .map((each) => each.slice(prefix.length));
}

export function readFileSync(path: string, encoding?: "utf8"): Uint8Array | string {
  const fd = openSync(path);
  try {
    const bytes = new Uint8Array(Number(fstatSync(fd).size));
    readSync(fd, bytes, 0, bytes.length, 0);
    return encoding === undefined ? bytes : new TextDecoder().decode(bytes);
  } finally {
    closeSync(fd);
  }
}

export function writeFileSync(
  path: string,
  data: string | Uint8Array,
  { flag = "w" }: { flag?: string } = {},
): void {
  const fd = openSync(path, flag);
  try {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    writeSync(fd, bytes, 0, bytes.length, 0);
  } finally {
    closeSync(fd);
  }
}

function absolute(path: string): string {
  return resolve("/", path);
}

/** A folder exists if the path of a file names it. */
function isFolder(path: string): boolean {
  if (path === "/" || path === OUTPUT_FOLDER) return true;
  return givenPaths().some((each) => each.startsWith(`${path}/`));
}

function openedAs(fd: number): Opened {
  const found = opened.get(fd);
  if (found === undefined) throw new FileError("EBADF");
  return found;
}

function ask(request: DiskRequest): DiskAnswer {
  const door = diskDoor();
  if (door === null) throw new FileError("ENOENT");
  return door(request);
}
