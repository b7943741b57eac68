/** The thread that reads given files ahead of the others. It ends with the conversion. */

import type { ReadAheadMemory } from "./read_ahead.ts";
import { ReadAheadService } from "./read_ahead_service.ts";
import { throwOnLostMessages } from "../threads/lost_messages.ts";

/** Messages to the thread. */
export type ReaderMessage =
  | {
    readonly kind: "open";
    readonly files: ReadonlyMap<number, Blob>;
    readonly memory: ReadAheadMemory;
  }
  | { readonly kind: "connect"; readonly port: MessagePort };

/** The thread's one message: from now on it reads. */
export type ReaderReport = { readonly kind: "opened" };

const scope = globalThis as unknown as {
  onmessage: ((event: MessageEvent<ReaderMessage>) => void) | null;
  postMessage(message: ReaderReport): void;
};

throwOnLostMessages();

let service: ReadAheadService | null = null;

scope.onmessage = ({ data }) => {
  if (data.kind === "connect") service!.connect(data.port);
  else {
    service = new ReadAheadService(data.files, data.memory);
    scope.postMessage({ kind: "opened" });
  }
};
