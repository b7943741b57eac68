/** A thread that writes the output, for `fs_test.ts`. */

import { createSharedMemory } from "../../../src/backend/cpu/arena.ts";
import type { DiskLink } from "../../../web/files/disk_channel.ts";
import { mountPassed, prepareRun } from "../../../web/files/file_table.ts";
import * as fs from "../../../web/node/fs.ts";

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<{ link: DiskLink; canOpen: boolean }>) => void;
  postMessage(said: unknown): void;
};

const own = new Uint8Array(6);
const handles = { opened: 0, closed: 0 };

/** The browser's own storage, with one file. */
function storage(canOpen: boolean): unknown {
  const handle = {
    read: (view: Uint8Array, { at }: { at: number }) => {
      const part = own.subarray(at, at + view.length);
      view.set(part);
      return part.length;
    },
    write: (view: Uint8Array, { at }: { at: number }) => {
      own.set(view, at);
      return view.length;
    },
    close: () => handles.closed++,
  };
  const createSyncAccessHandle = () => {
    if (!canOpen) return Promise.reject(new DOMException("in use", "NoModificationAllowedError"));
    handles.opened++;
    return Promise.resolve(handle);
  };
  const folder = {
    getDirectoryHandle: () => Promise.resolve(folder),
    getFileHandle: () => Promise.resolve({ createSyncAccessHandle }),
  };
  return { getDirectory: () => Promise.resolve(folder) };
}

scope.onmessage = async ({ data: { link, canOpen } }) => {
  Object.defineProperty(navigator, "storage", { value: storage(canOpen) });
  const output = { kind: "private", folder: "f" } as const;
  mountPassed({ given: [], disk: link, output, ahead: null });
  const first = fs.openSync("/output/.x.partial", "wx+");
  fs.ftruncateSync(first, 6);
  fs.closeSync(first);
  await prepareRun(createSharedMemory(1));
  fs.writeFileSync("/output/.lock", "me");
  const fd = fs.openSync("/output/.x.partial", "r+");
  fs.writeSync(fd, Uint8Array.of(6, 7, 8, 9), 1, 2, 2);
  const back = new Uint8Array(2);
  fs.readSync(fd, back, 0, 2, 2);
  fs.closeSync(fd);
  scope.postMessage({
    own: [...own],
    back: [...back],
    lock: fs.readFileSync("/output/.lock", "utf8"),
    handles,
  });
};
