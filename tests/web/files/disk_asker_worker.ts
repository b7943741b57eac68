/** Asks a disk for its files once, for `disk_test.ts`. */

import { type DiskLink, doorBehind } from "../../../web/files/disk_channel.ts";

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<DiskLink>) => void;
  postMessage(said: unknown): void;
};

scope.onmessage = ({ data: link }) => {
  try {
    scope.postMessage(doorBehind(link)({ op: "list" }));
  } catch (error) {
    scope.postMessage(String(error));
  }
};
