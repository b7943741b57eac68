/** The thread that owns the disk of a conversion. It ends with the conversion. */

import { Disk } from "./disk.ts";
import { type DiskBell, type DiskLink, DiskService } from "./disk_channel.ts";
import { openStore, type StorePlace } from "./store_place.ts";
import type { StoreResult } from "./output_store.ts";
import { throwOnLostMessages } from "../threads/lost_messages.ts";

/** Messages to the thread. */
export type DiskWorkerMessage =
  | { readonly kind: "open"; readonly place: StorePlace; readonly bell: DiskBell }
  | { readonly kind: "connect"; readonly link: DiskLink }
  | { readonly kind: "result" }
  | { readonly kind: "discard" };

/** Messages of the thread, once for each "open", "result" and "discard". */
export type DiskWorkerReport =
  | { readonly kind: "opened" }
  | { readonly kind: "result"; readonly result: StoreResult }
  | { readonly kind: "discarded" }
  | { readonly kind: "failed"; readonly message: string };

const scope = globalThis as unknown as {
  onmessage: ((event: MessageEvent<DiskWorkerMessage>) => void) | null;
  postMessage(message: DiskWorkerReport): void;
};

throwOnLostMessages();

let disk: Disk | null = null;
let service: DiskService | null = null;

scope.onmessage = ({ data }) => {
  answer(data).then((report) => {
    if (report !== null) scope.postMessage(report);
  }, (error) => scope.postMessage({ kind: "failed", message: (error as Error).message }));
};

async function answer(message: DiskWorkerMessage): Promise<DiskWorkerReport | null> {
  switch (message.kind) {
    case "open":
      disk = new Disk(await openStore(message.place));
      service = new DiskService(disk, message.bell);
      return { kind: "opened" };
    case "connect":
      service!.connect(message.link);
      return null;
    case "result":
      await service!.settled();
      return { kind: "result", result: await disk!.result() };
    case "discard":
      await service?.settled();
      await disk?.discard();
      return { kind: "discarded" };
  }
}
