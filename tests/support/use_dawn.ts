/**
 * Loaded before tests: they run on Dawn, from the folder that QUANTSMITH_DAWN names. See
 * `scripts/test_dawn.ts`.
 */

import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { type Dawn, installDawn } from "../../src/backend/webgpu/provide_webgpu.ts";

const folder = process.env["QUANTSMITH_DAWN"];
if (folder === undefined) throw new Error("QUANTSMITH_DAWN names no folder");
const entry = join(folder, "node_modules/webgpu/index.js");
installDawn(await import(pathToFileURL(entry).href) as Dawn);
