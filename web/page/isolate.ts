/**
 * Shared memory needs two headers. If the host does not set them, a service worker does: once it is there,
 * the page is loaded again through it.
 */

const TRIED = "quantsmith isolation tried";

/** Isolates the page if it is not; returns false if it is about to be loaded again. */
export async function isolate(): Promise<boolean> {
  const { serviceWorker } = navigator;
  const isOff = new URLSearchParams(location.search).get("isolate") === "off";
  if (globalThis.crossOriginIsolated || serviceWorker === undefined || isOff) return true;
  if (sessionStorage.getItem(TRIED) !== null) return true;
  try {
    await serviceWorker.register("service_worker.js");
    await serviceWorker.ready;
  } catch {
    return true; // the page says that it is slower
  }
  sessionStorage.setItem(TRIED, "1");
  location.reload();
  return false;
}
