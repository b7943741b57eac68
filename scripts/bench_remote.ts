/** The same conversion from a file and from a server on loopback, in turns. */

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import type { Measurement } from "./support/measure.ts";
import { RangeServer } from "./support/range_server.ts";

/** Conversions of one model from a file and from a server, round by round. */
export interface RemoteTimes {
  readonly local: readonly Measurement[];
  readonly remote: readonly Measurement[];
}

/**
 * Measures conversions of `model`; the server runs in this process and shares the machine with them.
 *
 * @param convert converts a path or a URL to a file.
 */
export async function timeRemote(
  model: string,
  { rounds, convert }: {
    rounds: number;
    convert: (source: string, out: string) => Promise<Measurement>;
  },
): Promise<RemoteTimes> {
  await using server = await RangeServer.start(model);
  const out = `${model}.out.safetensors`;
  const run = async (source: string): Promise<Measurement> => {
    execFileSync("sync");
    try {
      return await convert(source, out);
    } finally {
      fs.rmSync(out, { force: true });
    }
  };
  const local: Measurement[] = [], remote: Measurement[] = [];
  for (let round = 1; round <= rounds; round++) {
    local.push(await run(model));
    remote.push(await run(server.url(path.basename(model))));
    console.error(
      `Round ${round} of ${rounds}: from the file ${local.at(-1)!.seconds.toFixed(2)} s, ` +
        `from the server ${remote.at(-1)!.seconds.toFixed(2)} s`,
    );
  }
  return { local, remote };
}
