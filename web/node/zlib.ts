/** The parts of `node:zlib` that the program uses: nothing that it could not do without. */

export const crc32 = undefined;
