/** The parts of `node:crypto` that the program uses: SHA-256 that does not wait, and random names. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";

/** As `crypto.Hash`. */
class Hash {
  readonly #state = sha256.create();

  update(data: string | Uint8Array): this {
    this.#state.update(typeof data === "string" ? utf8ToBytes(data) : data);
    return this;
  }

  digest(): Uint8Array;
  digest(encoding: "hex"): string;
  digest(encoding?: "hex"): Uint8Array | string {
    const bytes = this.#state.digest();
    return encoding === "hex" ? bytesToHex(bytes) : bytes;
  }
}

export function createHash(algorithm: string): Hash {
  if (algorithm !== "sha256") throw new TypeError(`Cannot hash by "${algorithm}"`);
  return new Hash();
}

export function randomUUID(): string {
  return crypto.randomUUID();
}
