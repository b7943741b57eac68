/** Reads through the blocks of another thread, for `read_ahead_test.ts`. */

import { ReadAhead, type ReadAheadLink } from "../../../web/files/read_ahead.ts";

/** Reads that the thread does, one after the other. */
export interface ReadJob {
  readonly link: ReadAheadLink;
  readonly file: number;
  readonly reads: readonly (readonly [position: number, length: number])[];
}

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<ReadJob>) => void;
  postMessage(said: readonly Uint8Array[]): void;
};

scope.onmessage = ({ data: { link, file, reads } }) => {
  const ahead = new ReadAhead(link);
  scope.postMessage(reads.map(([position, length]) => {
    const view = new Uint8Array(length);
    return view.slice(0, ahead.read(file, view, position));
  }));
  link.port.close();
};
