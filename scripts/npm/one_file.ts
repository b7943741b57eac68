/**
 * The program as one file. It is the script of its own workers, too, and says nothing that only a module
 * or only a CommonJS script may say: runtimes take a lone `.js` file for the one or the other.
 */

import process from "node:process";
import { pathToFileURL } from "node:url";
import { isMainThread } from "node:worker_threads";

// On Deno workers are those of the web, which are main threads to `node:worker_threads`.
if (isMainThread && !("WorkerGlobalScope" in globalThis)) void main();
else void import("../../src/run/workers/worker.ts");

async function main(): Promise<void> {
  const { run } = await import("../../src/cli/run.ts");
  const program = ownUrl();
  const code = await run(process.argv.slice(2), { workerUrl: program, program: program.href });
  process.exit(code);
}

/** Origin of this file: Deno may have it from a server, the others have it on the disk. */
function ownUrl(): URL {
  const { Deno: deno } = globalThis as { Deno?: { mainModule?: string } };
  return deno?.mainModule === undefined
    ? pathToFileURL(process.argv[1]!)
    : new URL(deno.mainModule);
}
