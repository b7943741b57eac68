/** Headers of the page that converts in a browser. Pure: its service worker sets them, too, on other hosts. */

/** The policy for scripts: load the others beside it, compile WebAssembly, and connect to nothing. */
const SCRIPT_POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'none'";

/** The script that answers requests of the page on hosts that cannot set headers; it asks the host. */
export const SERVICE_WORKER = "service_worker.js";

/** With these two a browser gives a page shared memory. */
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/**
 * Returns the headers of the file `name`. The policy of the page itself stands in it; workers have that of
 * their script.
 */
export function pageHeaders(name: string): Readonly<Record<string, string>> {
  return {
    ...ISOLATION,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
    ...(name.endsWith(".js") && name !== SERVICE_WORKER
      ? { "Content-Security-Policy": SCRIPT_POLICY }
      : {}),
  };
}
