/** A model wherever it lies: on a disk, or on a server with a thread that fetches from it. */

import { MAX_MARKER_BYTES } from "../../formats/marker_reader.ts";
import { resolve } from "node:path";
import process from "node:process";
import type { Worker } from "node:worker_threads";
import {
  createChannel,
  type FileRange,
  killChannel,
  type RemotePath,
} from "../../remote/channel.ts";
import type { KnownFile } from "../../remote/block_store.ts";
import type { FetchMessage, FetchReport } from "../../remote/fetch_thread.ts";
import { isRemote, type RemoteEnvironment } from "../../remote/location.ts";
import type { Patience } from "../../remote/patience.ts";
import type { ModelSource } from "../../safetensors/model_source.ts";
import { openModel } from "../../safetensors/reader.ts";
import { isVersionless, lookAt } from "../../remote/second_look.ts";
import { openRemote } from "../../safetensors/remote_model.ts";
import { reportedError } from "./error_classes.ts";
import { startWorker, threadError } from "./start_worker.ts";

/** How a model is opened. */
export interface InputOptions {
  /** URL of `src/run/workers/worker.ts`, built in the main module. */
  readonly workerUrl: URL;
  /** Folder if downloaded values are kept that are read more than once. Default: the working folder. */
  readonly spillFolder?: string | undefined;
  /** Everything will be read more than once. */
  readonly keep?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called when a request failed and is repeated, with a sentence for people. */
  readonly onRetry?: ((text: string) => void) | undefined;
  /** Called with what a user should know, one sentence. */
  readonly onNote?: ((text: string) => void) | undefined;
  /** Source of tokens and addresses. Default: the environment of the process. */
  readonly env?: RemoteEnvironment | undefined;
  readonly patience?: Patience | undefined;
}

/** A model that is open. Dispose it (`using`): a server's connections and thread stay until then. */
export interface OpenInput extends Disposable {
  readonly model: ModelSource;
}

/**
 * Opens a model.
 *
 * @param word a path, as for `openModel`, or what `openRemote` takes.
 * @throws as `openModel` and `openRemote`; the reason of `options.signal`.
 */
export async function openInput(
  word: string | ModelSource,
  options: InputOptions,
): Promise<OpenInput> {
  if (typeof word !== "string" || !isRemote(word)) {
    const model = openModel(word);
    return { model, [Symbol.dispose]: () => {} };
  }
  const { signal, onRetry, patience } = options;
  const { source, files } = await openRemote(word, {
    env: options.env ?? environment(),
    signal,
    onRetry,
    patience,
  });
  const versionless = files.filter(isVersionless);
  for (const note of serverNotes(files, options.spillFolder)) options.onNote?.(note);
  const persist = { signal, onRetry, patience };
  const secondLook = versionless.length === 0 ? undefined : await lookAt(versionless, persist);
  const channel = createChannel();
  const worker = startWorker(options.workerUrl);
  const close = (): void => {
    killChannel(channel);
    worker.terminate();
  };
  try {
    await started(worker, {
      kind: "fetch",
      channel,
      files,
      hold: markersOf(source),
      keep: options.keep ?? false,
      spillFolder: options.spillFolder ?? ".",
      ...(patience === undefined ? {} : { patience }),
    }, { signal, onRetry });
  } catch (error) {
    close();
    throw error;
  }
  const paths = files.map(({ file, version }, number): RemotePath => ({
    name: file.name,
    file: number,
    bytes: version.bytes,
    stamp: stampOf({ file, version }),
    channel,
  }));
  const model = { ...source, paths, ...(secondLook === undefined ? {} : { secondLook }) };
  return { model, [Symbol.dispose]: close };
}

/** What a user should know of a server that lacks something, one sentence each. */
function serverNotes(files: readonly KnownFile[], spillFolder = "."): string[] {
  const versionless = files.find(isVersionless);
  return [
    ...(files.every(({ version }) => version.hasParts) ? [] : [
      "the server sends no parts of files: all of the model is downloaded, once values are read, to a " +
      `hidden file in ${JSON.stringify(resolve(spillFolder))} that goes at the end`,
    ]),
    ...(versionless === undefined ? [] : [
      `the server gives no ETag and no date of ${
        JSON.stringify(versionless.file.name)
      }: whether it ` +
      "changes while it is read is judged by its size, and by a second look at parts of it at the end",
    ]),
  ];
}

/** Waits until the thread answers. */
function started(
  worker: Worker,
  message: FetchMessage,
  { signal, onRetry }: Pick<InputOptions, "signal" | "onRetry">,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal!.reason);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
    worker.on("message", (report: FetchReport) => {
      if (report.kind === "retry") onRetry?.(report.text);
      else if (report.kind === "failed") {
        killChannel(message.channel); // who reads would wait forever
        reject(reportedError(report.error));
      } else {
        signal?.removeEventListener("abort", stop);
        resolve();
      }
    });
    worker.on("error", (error) => {
      killChannel(message.channel); // who reads would wait forever
      reject(threadError("Cannot run the thread that fetches", error));
    });
    worker.postMessage(message);
  });
}

/** Markers are read one by one: fetched beforehand, together, they cost a few requests. */
function markersOf({ tensors }: Pick<ModelSource, "tensors">): FileRange[] {
  return tensors
    .filter(({ name, byteLength }) =>
      name.endsWith(".comfy_quant") && byteLength > 0 && byteLength <= MAX_MARKER_BYTES
    )
    .map(({ file, offsetBytes, byteLength }) => ({
      file,
      begin: offsetBytes,
      end: offsetBytes + byteLength,
    }));
}

/** Mark that changes with the file. */
function stampOf({ version: { bytes, etag, lastModified } }: KnownFile): string {
  return `${bytes} ${etag ?? lastModified ?? "no version"}`;
}

function environment(): RemoteEnvironment {
  const { HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_ENDPOINT } = process.env;
  return {
    ...(HF_TOKEN === undefined ? {} : { HF_TOKEN }),
    ...(HUGGING_FACE_HUB_TOKEN === undefined ? {} : { HUGGING_FACE_HUB_TOKEN }),
    ...(HF_ENDPOINT === undefined ? {} : { HF_ENDPOINT }),
  };
}
