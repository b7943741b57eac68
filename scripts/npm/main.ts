/** The program of the npm package. Its worker is a file beside it. */

import process from "node:process";
import { run } from "../../src/cli/run.ts";
import { WORKER_URL } from "../../src/run/workers/worker_url.ts";

const code = await run(process.argv.slice(2), { workerUrl: WORKER_URL, program: import.meta.url });
process.exit(code);
