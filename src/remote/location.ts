/**
 * Names of models that lie on a server: what a user writes, what is asked for, and what may be printed.
 * A URL can hold secrets (a password, a signature in its query); only its origin and path are shown. Pure.
 */

import { UsageError } from "../core/errors.ts";

/** A file on a server. */
export interface RemoteFile {
  /** For messages: the URL without what may be secret. */
  readonly name: string;
  /** The address that is requested: no user or password in it, but a query may be secret. */
  readonly url: string;
  /** Sent to the host of `url` alone; secret. */
  readonly headers: Readonly<Record<string, string>>;
}

/** A model of a repository: `hf://owner/repo[/file][@revision]`. */
export interface HubPlace {
  readonly repo: string;
  /** A path in the repository; null: its only model. */
  readonly file: string | null;
  readonly revision: string | null;
}

/** The environment variables that matter, by the names that the Hub's own tools read. */
export type RemoteEnvironment = Readonly<
  Partial<Record<"HF_TOKEN" | "HUGGING_FACE_HUB_TOKEN" | "HF_ENDPOINT", string>>
>;

const DEFAULT_HUB = "https://huggingface.co";

/** Whether a user's word names a model on a server. */
export function isRemote(word: string): boolean {
  return /^(https?|hf):\/\//i.test(word);
}

/** Returns the address of the Hub, without a slash at its end. */
export function hubUrl(env: RemoteEnvironment): string {
  const url = env.HF_ENDPOINT?.trim();
  return (url === undefined || url === "" ? DEFAULT_HUB : url).replace(/\/+$/, "");
}

/** Returns the token for the Hub, null if there is none. Never to be printed. */
function hubToken(env: RemoteEnvironment): string | null {
  const token = (env.HF_TOKEN ?? env.HUGGING_FACE_HUB_TOKEN)?.trim();
  return token === undefined || token === "" ? null : token;
}

/**
 * Returns the file that an `http:` or `https:` URL names. User and password become a header; the Hub's
 * own host gets the token of the environment, and its `/blob/` pages become the files they show.
 *
 * @throws UsageError if it is no URL.
 */
export function httpFile(word: string, env: RemoteEnvironment = {}): RemoteFile {
  const url = parsed(word);
  const headers: Record<string, string> = {};
  if (url.username !== "" || url.password !== "") {
    const pair = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
    headers["authorization"] = `Basic ${base64Of(pair)}`;
    url.username = "";
    url.password = "";
  }
  url.hash = "";
  if (url.origin === parsed(hubUrl(env)).origin) {
    url.pathname = url.pathname.replace(/^(\/[^/]+\/[^/]+)\/blob\//, "$1/resolve/");
    const token = hubToken(env);
    if (token !== null && headers["authorization"] === undefined) {
      headers["authorization"] = `Bearer ${token}`;
    }
  }
  return { name: printable(url), url: url.href, headers };
}

/** Returns the file `name` of the same folder, with the same query and headers. */
export function siblingOf(file: RemoteFile, name: string): RemoteFile {
  const url = new URL(file.url);
  url.pathname = url.pathname.replace(/[^/]*$/, encodeURIComponent(name));
  return { ...file, name: printable(url), url: url.href };
}

/** Returns what of a user's word may be printed. Local paths stay as they are. */
export function displayName(word: string): string {
  if (!/^https?:\/\//i.test(word)) return word;
  const url = URL.parse(word);
  return url === null ? word.replace(/[?#].*$/s, "").replace(/\/\/[^/@]*@/, "//") : printable(url);
}

/**
 * Returns what outputs are named after: a local path as it is, and of a model on a server its file name,
 * or that of its repository. Outputs then lie in the working folder.
 */
export function localNameOf(word: string): string {
  if (!isRemote(word)) return word;
  if (!/^hf:/i.test(word)) return fileNameOf(word);
  const { repo, file } = parseHub(word);
  return fileNameOf(file ?? repo);
}

/** Returns the file name at the end of a URL, decoded: what an output is named after. */
function fileNameOf(name: string): string {
  const last = name.replace(/[?#].*$/s, "").replace(/\/+$/, "").split("/").at(-1)!;
  try {
    return decodeURIComponent(last).replaceAll(/[/\\\0]/g, "_");
  } catch (error) {
    if (error instanceof URIError) return last; // a stray %: the name as it stands
    throw error;
  }
}

/**
 * Returns what an `hf:` word names. The revision stands after the repository or at the end.
 *
 * @throws UsageError if it has another form.
 */
export function parseHub(word: string): HubPlace {
  const text = word.replace(/^hf:\/\//i, "");
  // A revision with a slash in it (`refs/pr/3`) is known by its first word.
  const match = /^([^/@]+\/[^/@]+)(?:@(refs\/[^/]+\/[^/]+|[^/]+))?(?:\/(.+?))?$/
    .exec(text.replace(/\/+$/, ""));
  if (match === null) {
    throw new UsageError(
      `Cannot read ${
        JSON.stringify(word)
      }: a model of the Hub is hf://owner/repo[/file][@revision]`,
    );
  }
  const [, repo, early, rest] = match;
  const late = early === undefined ? /^(.+)@([^@]+)$/.exec(rest ?? "") : null;
  return {
    repo: repo!,
    file: late?.[1] ?? rest ?? null,
    revision: early ?? late?.[2] ?? null,
  };
}

/**
 * Returns the place that the address of a page of the Hub shows, as people copy it from a browser:
 * `https://huggingface.co/owner/repo`, `.../tree/revision/folder`. Null: it is another address.
 */
export function hubPageOf(word: string, env: RemoteEnvironment): HubPlace | null {
  const url = URL.parse(word);
  if (url === null || url.origin !== parsed(hubUrl(env)).origin) return null;
  const [, repo, revision, folder] =
    /^\/([^/]+\/[^/]+)(?:\/tree\/([^/]+)(?:\/(.+?))?)?\/?$/.exec(url.pathname) ?? [];
  if (repo === undefined) return null;
  const plain = (text: string | undefined) => text === undefined ? null : decodeURIComponent(text);
  return { repo, file: plain(folder), revision: plain(revision) };
}

/** Returns a file of the Hub. */
export function hubFile(
  { repo, revision }: HubPlace,
  path: string,
  env: RemoteEnvironment,
): RemoteFile {
  const place = [
    encodeURIComponent(revision ?? "main"),
    ...path.split("/").map(encodeURIComponent),
  ];
  return httpFile(`${hubUrl(env)}/${repo}/resolve/${place.join("/")}`, env);
}

function parsed(word: string): URL {
  const url = URL.parse(word);
  if (url !== null && url.hostname !== "") return url;
  throw new UsageError(`Cannot read ${JSON.stringify(displayName(word))}: it is not a valid URL`);
}

function printable(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}${url.search === "" ? "" : "?..."}`;
}

/** Returns the base64 of the UTF-8 of `text`. */
function base64Of(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
