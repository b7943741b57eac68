/**
 * Sets the headers that give the page shared memory, on hosts that cannot. It keeps nothing, and its
 * only requests go to the host of the page.
 */

import { pageHeaders } from "../../src/cli/ui/page_headers.ts";

/** Of service workers; the types that Deno has lack them. */
interface FetchEvent extends Event {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}
interface ExtendableEvent extends Event {
  waitUntil(done: Promise<unknown>): void;
}
const scope = globalThis as unknown as {
  readonly clients: { claim(): Promise<void> };
  readonly location: Location;
  skipWaiting(): Promise<void>;
  addEventListener(name: "install" | "activate", listener: (event: ExtendableEvent) => void): void;
  addEventListener(name: "fetch", listener: (event: FetchEvent) => void): void;
};

scope.addEventListener("install", (event) => event.waitUntil(scope.skipWaiting()));
scope.addEventListener("activate", (event) => event.waitUntil(scope.clients.claim()));
scope.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  if (origin !== scope.location.origin) return;
  event.respondWith(answer(event.request, pathname.split("/").at(-1)!));
});

async function answer(request: Request, name: string): Promise<Response> {
  const response = await fetch(request);
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  for (const [key, value] of Object.entries(pageHeaders(name))) headers.set(key, value);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
