import assert from "node:assert/strict";
import { PickedStore } from "../../../web/files/output_store.ts";
import { synthetic } from "./synthetic.ts";

const GIB = 2 ** 30;

/** A picked file as browsers have it: what is written counts once the stream is closed. */
class PickedFile {
  readonly name = "model.safetensors";
  content = new Uint8Array(0);
  removed = false;
  aborted = false;
  /** Thrown by writes that end after so many bytes. */
  limit: { readonly bytes: number; readonly error: Error } | null = null;
  #swap = new Uint8Array(0);

  createWritable(): Promise<unknown> {
    return Promise.resolve({
      write: ({ position, data }: { position: number; data: Uint8Array }) => {
        const end = position + data.length;
        if (this.limit !== null && end > this.limit.bytes) return Promise.reject(this.limit.error);
        if (end > this.#swap.length) this.#resize(end);
        this.#swap.set(data, position);
        return Promise.resolve();
      },
      truncate: (size: number) => {
        if (this.limit !== null && size > this.limit.bytes) return Promise.reject(this.limit.error);
        this.#resize(Math.min(size, 1 << 20));
        return Promise.resolve();
      },
      close: () => {
        this.content = this.#swap;
        return Promise.resolve();
      },
      abort: () => {
        this.aborted = true;
        return Promise.resolve();
      },
    });
  }

  getFile(): Promise<Blob> {
    return Promise.resolve(new Blob([this.content]));
  }

  remove(): Promise<void> {
    this.removed = true;
    return Promise.resolve();
  }

  #resize(size: number): void {
    const larger = new Uint8Array(size);
    larger.set(this.#swap.subarray(0, size));
    this.#swap = larger;
  }
}

function storeOf(file: PickedFile): Promise<PickedStore> {
  return PickedStore.create(file as unknown as FileSystemFileHandle);
}

Deno.test("PickedStore has all bytes in the file once it is complete, and none before", async () => {
  const file = new PickedFile();
  const store = await storeOf(file);
  await store.truncate(1000);
  await store.write(synthetic(100, 1), 900);
  await store.write(synthetic(900, 2), 0);
  assert.equal(file.content.length, 0);
  await assert.rejects(store.read(new Uint8Array(1), 0), /only when all of it is written/);
  await store.complete();
  assert.deepEqual(file.content, new Uint8Array([...synthetic(900, 2), ...synthetic(100, 1)]));
  const back = new Uint8Array(200);
  assert.equal(await store.read(back, 900), 100);
  assert.deepEqual(back.subarray(0, 100), synthetic(100, 1));
});

Deno.test("PickedStore leaves nothing of a file that the browser made, and what was there before", async () => {
  const fresh = new PickedFile();
  const store = await storeOf(fresh);
  await store.write(synthetic(10, 1), 0);
  await store.discard();
  assert.ok(fresh.aborted && fresh.removed);
  const earlier = new PickedFile();
  earlier.content = synthetic(5, 1);
  await (await storeOf(earlier)).discard();
  assert.ok(earlier.aborted && !earlier.removed);
});

Deno.test("PickedStore says that the disk is full, or that FAT32 holds no file over 4 GB, and what to do", async () => {
  const full = new PickedFile();
  full.limit = { bytes: 5, error: new DOMException("no room", "QuotaExceededError") };
  const small = await storeOf(full);
  await small.write(synthetic(10, 1), 0);
  await assert.rejects(async () => await small.complete(), { code: "ENOSPC" });
  const stick = new PickedFile();
  stick.limit = { bytes: 4 * GIB - 1, error: new DOMException("failed", "InvalidStateError") };
  await assert.rejects(
    (await storeOf(stick)).truncate(5 * GIB),
    /FAT32 holds no file over 4 GB; choose a place on one with exFAT or NTFS/,
  );
  const broken = new PickedFile();
  broken.limit = { bytes: 5, error: new DOMException("failed", "InvalidStateError") };
  await assert.rejects(
    (await storeOf(broken)).truncate(1000),
    (error: Error) => /the disk reports an error: failed/.test(error.message),
  );
});
