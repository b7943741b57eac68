/** The files of a run, read by position, wherever they lie: on a disk, or on a server. */

import { closeSync, openSync, readSync } from "node:fs";
import { ChannelClient } from "../remote/channel.ts";
import type { InputPath } from "../remote/input_path.ts";
import { explained } from "./io_error.ts";

/** One read or write call takes fewer than 2^31 bytes in every runtime. */
export const MAX_IO_BYTES = 2 ** 30;

/**
 * Fills `view` with the bytes of a file from `positionBytes` on.
 *
 * @param fd an open file.
 * @param view any length, 0 included; may lie in shared memory.
 * @throws RangeError if the file ends before; what `node:fs` throws if reading fails.
 */
export function readExactly(fd: number, view: Uint8Array, positionBytes: number): void {
  let done = 0;
  while (done < view.length) {
    const wanted = Math.min(view.length - done, MAX_IO_BYTES);
    const got = readSync(fd, view, done, wanted, positionBytes + done);
    if (got === 0) {
      throw new RangeError(
        `the file ends at byte ${positionBytes + done}, ` +
          `bytes ${positionBytes} to ${positionBytes + view.length} are needed`,
      );
    }
    done += got;
  }
}

/** Reads several files, keeping them open in between. Dispose it: `using`. */
export class InputFiles implements Disposable {
  readonly #paths: readonly InputPath[];
  readonly #fds: (number | null)[];
  /** By channel: a thread has one end of each. */
  readonly #clients = new Map<string, ChannelClient>();
  readonly #shouldStop: () => boolean;

  /** @param shouldStop asked while a server is waited for; the read fails once it says true. */
  constructor(
    paths: readonly InputPath[],
    { shouldStop = () => false }: { shouldStop?: () => boolean } = {},
  ) {
    this.#paths = paths;
    this.#fds = paths.map(() => null);
    this.#shouldStop = shouldStop;
  }

  /** Opens all files now; otherwise each is opened when it is first read. @throws FileError. */
  open(): void {
    this.#paths.forEach((path, file) => {
      if (typeof path === "string") this.#fdOf(file, path);
    });
  }

  /**
   * Fills `view` with the bytes of file number `file` from `positionBytes` on.
   *
   * @throws FileError, also if the file ends before; RemoteError if a server does not send them.
   */
  read(file: number, view: Uint8Array, positionBytes: number): void {
    const path = this.#paths[file];
    if (path === undefined) throw new RangeError(`The model has no file number ${file}`);
    if (typeof path === "string") {
      const fd = this.#fdOf(file, path);
      explained(
        `Cannot read ${JSON.stringify(path)}`,
        () => readExactly(fd, view, positionBytes),
      );
      return;
    }
    const { id } = path.channel;
    const client = this.#clients.get(id) ??
      new ChannelClient(path.channel, { shouldStop: this.#shouldStop });
    this.#clients.set(id, client);
    client.read(path.file, view, positionBytes);
  }

  /** Closes the files; a later {@link read} opens them again. */
  close(): void {
    this.#fds.forEach((fd, file) => {
      this.#fds[file] = null;
      if (fd !== null) closeSync(fd);
    });
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #fdOf(file: number, path: string): number {
    return this.#fds[file] ??= explained(
      `Cannot open ${JSON.stringify(path)}`,
      () => openSync(path, "r"),
    );
  }
}
