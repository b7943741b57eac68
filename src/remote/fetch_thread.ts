/** The thread that fetches: it answers a channel. */

import { type PlainError, plainError } from "../core/plain_error.ts";
import { BlockStore, type KnownFile } from "./block_store.ts";
import { type FileRange, type RemoteChannel, serveChannel } from "./channel.ts";
import type { Patience } from "./patience.ts";

/** Parameters of the thread. Plain data. */
export interface FetchMessage {
  readonly kind: "fetch";
  readonly channel: RemoteChannel;
  readonly files: readonly KnownFile[];
  /** Small ranges that are read soon, and one by one. */
  readonly hold: readonly FileRange[];
  /** Everything will be read more than once. */
  readonly keep: boolean;
  /** Folder for what is kept. */
  readonly spillFolder: string;
  readonly patience?: Patience;
}

/** Messages of the thread. */
export type FetchReport =
  /** From now on the channel is answered. */
  | { readonly kind: "ready" }
  /** A request failed and is repeated. */
  | { readonly kind: "retry"; readonly text: string }
  | { readonly kind: "failed"; readonly error: PlainError };

/** Answers the channel until it is closed. Never rejects: failures are reported, or passed to the reader. */
export async function fetchThread(
  { channel, files, hold, keep, spillFolder, patience }: FetchMessage,
  report: (report: FetchReport) => void,
): Promise<void> {
  using store = new BlockStore(files, {
    channel,
    spillFolder,
    onRetry: (text) => report({ kind: "retry", text }),
    ...(patience === undefined ? {} : { patience }),
  });
  try {
    if (keep) store.keep();
    await store.hold(hold);
  } catch (error) {
    report({ kind: "failed", error: plainError(error) });
    return;
  }
  report({ kind: "ready" });
  await serveChannel(channel, store);
}
