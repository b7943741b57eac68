/** Contents of a repository of the Hugging Face Hub, through its own client. */

import { httpFile, type HubPlace, hubUrl, type RemoteEnvironment } from "./location.ts";
import { DEFAULT_PATIENCE, persist, type PersistOptions } from "./patience.ts";
import { connectionFault } from "./range_request.ts";
import { RedirectError, Redirects } from "./redirects.ts";
import { RemoteError, statusFault } from "./remote_error.ts";

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
  const entries = listFiles({
    repo: place.repo,
    hubUrl: hubUrl(env),
    fetch: (input) => ask(String(input), env, options),
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
): Promise<Response> {
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
    if (response.ok) return response;
    await response.body?.cancel();
    const hasToken = file.headers["authorization"] !== undefined;
    throw statusFault({ ...place, hasToken }, response);
  }, options);
}
