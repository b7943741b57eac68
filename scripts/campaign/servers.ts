/** Conversions of a model on a server that misbehaves. */

import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { type Fault as ServerFault, FileServer } from "../../tests/support/file_server.ts";
import type { Trial } from "./commands.ts";
import { faultsAtEnd } from "./judge.ts";
import { runToEnd } from "./process.ts";
import { type Outcome, pick, type Random } from "./series.ts";

const FAULTS: readonly ((random: Random) => ServerFault)[] = [
  (random) => ({ status: pick(random, [301, 400, 401, 403, 404, 416, 429, 500, 502, 503]) }),
  (random) => ({
    status: 302,
    headers: { location: pick(random, ["/", "http://127.0.0.1:1/x", "::"]) },
  }),
  (random) => ({ cutAfter: Math.floor(random() * 5000) }),
  () => ({ etag: '"v2"' }),
  (random) => ({ totalBytes: Math.floor(random() * 1e7) }),
  () => ({ contentRange: "bytes 0-1/2" }),
  () => ({ contentRange: "bytes x" }),
  () => ({ sliceBytes: 1000, waitMs: 1 }),
  () => ({ whole: true }),
];

/** Converts `model` from a server; every answer is a wrong one with the same chance. */
export async function serverSeries(
  trial: Trial,
  folder: string,
  { random, model }: { random: Random; model: string },
): Promise<Outcome> {
  mkdirSync(folder, { recursive: true });
  const chance = pick(random, [0.05, 0.3, 1]), kind = pick(random, FAULTS);
  await using server = await FileServer.start({
    files: { [basename(model)]: new Uint8Array(readFileSync(model)) },
    fault: () => random() < chance ? kind(random) : null,
  });
  const url = server.url(basename(model));
  const ended = await runToEnd(trial.args(folder).map((word) => word === model ? url : word));
  const losses = ended.code === 0
    ? faultsAtEnd(trial, folder)
    : readdirSync(folder).map((name) => `${name} is left`);
  if (ended.signal !== null) losses.push("it hangs");
  return {
    trials: 1,
    losses: losses.map((l) => `server, ${JSON.stringify(kind(random))} at ${chance}: ${l}`),
  };
}
