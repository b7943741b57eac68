/** Contents of a repository of the Hugging Face Hub, through its own client. */

import { httpFile, type HubPlace, hubUrl, type RemoteEnvironment } from "./location.ts";
import { DEFAULT_PATIENCE, persist, type PersistOptions } from "./patience.ts";
import { readBody } from "./body_reader.ts";
import { connectionFault } from "./range_request.ts";
import { RedirectError, Redirects } from "./redirects.ts";
import { RemoteError, statusFault } from "./remote_error.ts";

/** A listing has a page per 1000 files or so, of some hundred bytes each; a server could send any number. */
const MOST_PAGES = 100, MOST_BYTES = 64 << 20;

/**
 * Returns the paths of the files in a folder of a repository, without those of its subfolders.
 *
 * @throws RemoteError; the reason of `options.signal`.
 */
export async function listHub(
  place: HubPlace,
  env: RemoteEnvironment,
  options: PersistOptions,
): Promise<string[]> {
  // Loaded here: other models need nothing of it.
  const { listFiles } = await import("@huggingface/hub");
  let pages = 0, read = 0;
  const entries = listFiles({
    repo: place.repo,
    hubUrl: hubUrl(env),
    fetch: async (input) => {
      if (++pages > MOST_PAGES) throw tooMuch(place, `more than ${MOST_PAGES} pages`);
      const { response, bytes } = await ask(String(input), env, options, MOST_BYTES - read);
      read += bytes.length;
      return new Response(bytes, { headers: response.headers });
    },
    ...(place.revision === null ? {} : { revision: encodeURIComponent(place.revision) }),
    ...(place.file === null
      ? {}
      : { path: place.file.split("/").map(encodeURIComponent).join("/") }),
  });
  const paths: string[] = [];
  for await (const { type, path } of entries) if (type === "file") paths.push(path);
  return paths;
}

/** Asks the Hub's interface. Takes no headers from its client: the token is added here, for its host alone. */
async function ask(
  url: string,
  env: RemoteEnvironment,
  options: PersistOptions,
  mostBytes: number,
): Promise<{ response: Response; bytes: Uint8Array<ArrayBuffer> }> {
  const file = httpFile(url, env);
  const place = { name: file.name, offsetBytes: null };
  const { silenceMs } = options.patience ?? DEFAULT_PATIENCE;
  return await persist(async () => {
    const signals = [AbortSignal.timeout(silenceMs), ...options.signal ? [options.signal] : []];
    let response: Response;
    try {
      const headers = { accept: "application/json" };
      response = await new Redirects().fetch(file, headers, AbortSignal.any(signals));
    } catch (error) {
      if (options.signal?.aborted) throw error;
      if (error instanceof RedirectError) {
        throw new RemoteError({ ...place, rule: error.message, isTemporary: false });
      }
      throw connectionFault(error, place);
    }
    if (response.ok) return { response, bytes: await bounded(response, place, mostBytes) };
    await response.body?.cancel();
    const hasToken = file.headers["authorization"] !== undefined;
    throw statusFault({ ...place, hasToken }, response);
  }, options);
}

/** Returns the body of a page of a listing. */
async function bounded(
  response: Response,
  place: { readonly name: string; readonly offsetBytes: null },
  mostBytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    await readBody(response.body as ReadableStream<Uint8Array<ArrayBuffer>> | null, 0, (bytes) => {
      length += bytes.length;
      // The view is only valid during the call.
      if (length <= mostBytes) parts.push(bytes.slice());
      return length <= mostBytes;
    });
  } catch (error) {
    throw connectionFault(error, place);
  }
  if (length > mostBytes) {
    throw new RemoteError({
      ...place,
      rule: listingRule(`more than ${MOST_BYTES} bytes`),
      isTemporary: false,
    });
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function tooMuch({ repo }: HubPlace, how: string): RemoteError {
  return new RemoteError({
    name: `hf://${repo}`,
    offsetBytes: null,
    rule: listingRule(how),
    isTemporary: false,
  });
}

function listingRule(how: string): string {
  return `the listing of its files has ${how}; name the file: hf://owner/repo/FILE`;
}
