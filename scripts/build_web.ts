/**
 * Builds the page that converts in a browser, into `dist/web/`: static files for any host.
 *
 *     deno task build:web [--out DIR]
 */

import path from "node:path";
import { parseArgs } from "node:util";
import { DIST } from "./support/binaries.ts";
import { buildSite } from "./support/site.ts";
import { Stage } from "./support/stage.ts";

const { values } = parseArgs({
  options: { out: { type: "string", default: path.join(DIST, "web") } },
});
using stage = new Stage();
const folder = path.resolve(values.out);
await buildSite(stage, folder);
console.log(folder);
