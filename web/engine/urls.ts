/** The scripts beside this one, once everything is bundled (`scripts/support/bundle_web.ts`). */

export const ENGINE_URLS = Object.freeze({
  worker: new URL("./worker.js", import.meta.url),
  disk: new URL("./disk.js", import.meta.url),
  reader: new URL("./reader.js", import.meta.url),
});
