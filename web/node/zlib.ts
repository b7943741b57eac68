/** The parts of `node:zlib` that the program uses: it does without them. */

export const crc32 = undefined;
