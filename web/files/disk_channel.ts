/**
 * A thread asks the one that owns the disk and waits: requests go by message, bytes and answers
 * through shared memory.
 */

import type { Disk, DiskAnswer, DiskDoor, DiskRequest } from "./disk.ts";
import { FileError } from "./random_access_file.ts";

/** Bytes for an answer: a state, names, or an error. */
const ANSWER_BYTES = 1 << 16;

/** Bytes that are carried at a time from memory that is not shared. */
const BOUNCE_BYTES = 1 << 20;

/** Cells of the answer's head. */
const CELL = { state: 0, length: 1 } as const;
const STATE = { waiting: 0, done: 1, failed: 2 } as const;
const HEAD_BYTES = 8;

/** One thread's end. */
export interface DiskLink {
  readonly port: MessagePort;
  readonly answer: SharedArrayBuffer;
}

interface Posted {
  readonly request: DiskRequest;
}

/** Returns a door for the thread that calls, and the other end, to be given to the thread of the disk. */
export function createLink(): { readonly own: DiskLink; readonly other: DiskLink } {
  const { port1, port2 } = new MessageChannel();
  const answer = new SharedArrayBuffer(HEAD_BYTES + ANSWER_BYTES);
  return { own: { port: port1, answer }, other: { port: port2, answer } };
}

/** Returns a door to the disk behind `link`; it blocks the calling thread until the answer is there. */
export function doorBehind({ port, answer }: DiskLink): DiskDoor {
  const cells = new Int32Array(answer, 0, 2);
  const text = new Uint8Array(answer, HEAD_BYTES);
  let bounce: Uint8Array<SharedArrayBuffer> | null = null;
  const ask = (request: DiskRequest): DiskAnswer => {
    Atomics.store(cells, CELL.state, STATE.waiting);
    port.postMessage({ request } satisfies Posted);
    // In a loop: the notice of the answer before may come late, and wake this wait.
    while (Atomics.load(cells, CELL.state) === STATE.waiting) {
      Atomics.wait(cells, CELL.state, STATE.waiting);
    }
    // A copy: decoders do not take shared memory.
    const said = JSON.parse(new TextDecoder().decode(text.slice(0, cells[CELL.length])));
    if (cells[CELL.state] === STATE.done) return said;
    throw new FileError(said.code, said.message);
  };
  return (request) => {
    if (request.op !== "read" && request.op !== "write") return ask(request);
    const { op, file, view, position } = request;
    if (view.buffer instanceof SharedArrayBuffer) return ask(request);
    bounce ??= new Uint8Array(new SharedArrayBuffer(BOUNCE_BYTES));
    let done = 0;
    do {
      const count = Math.min(BOUNCE_BYTES, view.length - done);
      const part = bounce.subarray(0, count);
      if (op === "write") part.set(view.subarray(done, done + count));
      const answer = ask({ op, file, view: part, position: position + done });
      const moved = op === "write" ? count : answer as number;
      if (op === "read") view.set(part.subarray(0, moved), done);
      done += moved;
      if (moved < count) break;
    } while (done < view.length);
    return done;
  };
}

/** Answers the requests of links, one after the other. */
export class DiskService {
  readonly #disk: Disk;
  #last: Promise<void> = Promise.resolve();

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  connect({ port, answer }: DiskLink): void {
    const cells = new Int32Array(answer, 0, 2);
    const text = new Uint8Array(answer, HEAD_BYTES);
    const reply = (state: number, said: unknown): void => {
      let bytes = new TextEncoder().encode(JSON.stringify(said));
      if (bytes.length > text.length) {
        bytes = new TextEncoder().encode(
          JSON.stringify({ code: "EIO", message: "too long an answer" }),
        );
        state = STATE.failed;
      }
      text.set(bytes);
      cells[CELL.length] = bytes.length;
      Atomics.store(cells, CELL.state, state);
      Atomics.notify(cells, CELL.state);
    };
    port.onmessage = ({ data }: MessageEvent<Posted>) => {
      this.#last = this.#last.then(async () => {
        try {
          reply(STATE.done, await this.#disk.do(data.request));
        } catch (error) {
          const { message } = error as Error;
          reply(STATE.failed, { code: error instanceof FileError ? error.code : "EIO", message });
        }
      });
    };
  }

  /** Everything that was asked so far is answered. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
