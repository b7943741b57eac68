/**
 * Requests that follow redirects by hand: what is secret goes to the origin it was meant for and to no
 * other, and where a file was found is remembered, so that not every part of it asks the first server.
 */

import type { RemoteFile } from "./location.ts";

const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];

/** Most redirects of one request; browsers allow 20. */
const MOST_REDIRECTS = 10;

/** A server redirects to where it must not, or forever. */
export class RedirectError extends Error {
  override readonly name = "RedirectError";
}

/** Addresses at which files were found. One for all requests of a model. */
export class Redirects {
  readonly #targets = new Map<string, string>();

  /**
   * Asks for `file`, and returns the first answer that is no redirect.
   *
   * @param headers besides those of the file; they go to every server on the way.
   * @throws RedirectError; what `fetch` throws.
   */
  async fetch(
    file: RemoteFile,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Response> {
    const origin = new URL(file.url).origin;
    let url = this.#targets.get(file.url) ?? file.url;
    for (let hops = 0; hops <= MOST_REDIRECTS; hops++) {
      const isOwn = new URL(url).origin === origin;
      const response = await fetch(url, {
        headers: isOwn ? { ...file.headers, ...headers } : { ...headers },
        signal,
        redirect: "manual",
      });
      if (!REDIRECTS.includes(response.status)) {
        if (url !== file.url) this.#targets.set(file.url, url);
        return response;
      }
      await response.body?.cancel();
      url = next(url, response.headers.get("location"));
    }
    throw new RedirectError(`the server redirects more than ${MOST_REDIRECTS} times`);
  }

  /** Forgets where a file was found: signed addresses expire. Returns false if there is nothing to forget. */
  forget(file: RemoteFile): boolean {
    return this.#targets.delete(file.url);
  }
}

function next(from: string, location: string | null): string {
  const to = location === null ? null : URL.parse(location, from);
  if (to === null) throw new RedirectError("the server redirects without a target");
  const isSecure = to.protocol === "https:" ||
    (to.protocol === "http:" && from.startsWith("http:"));
  if (!isSecure) {
    throw new RedirectError(
      `the server redirects to ${to.protocol}//${to.host}, which is not secure`,
    );
  }
  return to.href;
}
