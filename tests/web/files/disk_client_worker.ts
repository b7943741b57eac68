/** Asks a disk in another thread, for `disk_test.ts`. */

import { type DiskLink, doorBehind } from "../../../web/files/disk_channel.ts";
import { FileError } from "../../../web/files/random_access_file.ts";
import { synthetic } from "./synthetic.ts";

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<DiskLink>) => void;
  postMessage(said: unknown): void;
};

scope.onmessage = ({ data: link }) => {
  const door = doorBehind(link);
  const path = "/output/.model.partial";
  const file = door({ op: "open", path, flags: "wx+" }) as number;
  // More than is carried at a time.
  const own = synthetic(3_000_000, 5);
  door({ op: "write", file, view: own.subarray(0, 2_000_000), position: 0 });
  const shared = new Uint8Array(new SharedArrayBuffer(1_000_000));
  shared.set(own.subarray(2_000_000));
  door({ op: "write", file, view: shared, position: 2_000_000 });
  const back = new Uint8Array(3_000_100);
  const count = door({ op: "read", file, view: back, position: 0 });
  const sharedBack = new Uint8Array(new SharedArrayBuffer(3_000_000));
  door({ op: "read", file, view: sharedBack, position: 0 });
  const isSame = own.every((byte, i) => back[i] === byte && sharedBack[i] === byte);
  let code = "";
  try {
    door({ op: "open", path: "/output/none", flags: "r" });
  } catch (error) {
    code = error instanceof FileError ? error.code : String(error);
  }
  scope.postMessage({ isSame, count, code });
};
