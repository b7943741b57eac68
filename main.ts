/** The program: names the worker script, runs, and leaves with the exit code. */

import process from "node:process";
import { run } from "./src/cli/run.ts";

// Only the root module can name a worker in a way that every way of running understands.
const workerUrl = new URL("./src/run/workers/worker.ts", import.meta.url);
const code = await run(process.argv.slice(2), { workerUrl, program: import.meta.url });
// Output is written line by line as it is said, so leaving loses nothing.
process.exit(code);
