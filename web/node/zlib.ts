/** What the program uses of `node:zlib`: nothing that it could not do without. */

export const crc32 = undefined;
