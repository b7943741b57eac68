/**
 * Draws the picture of a run in the README: converts a synthetic model in a temporary folder and draws what a
 * terminal of 100 columns shows.
 *
 *     deno run -A --config deno.dev.json scripts/gen_picture.ts     # writes docs/run.svg
 */

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { screenLines } from "../src/cli/screen.ts";
import { writeSyntheticModel } from "../tests/support/synthetic_model.ts";
import { fluxLikeOfBytes, MODEL_SIZES } from "../tests/support/synthetic_shapes.ts";
import { ansiPicture } from "./support/ansi_picture.ts";

const COLUMNS = 100;
const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const PICTURE = fileURLToPath(new URL("../docs/run.svg", import.meta.url));

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-picture-"));
try {
  const model = path.join(folder, "model.safetensors");
  writeSyntheticModel(model, fluxLikeOfBytes(MODEL_SIZES["demo"]!, 0), { seed: 0 });
  const args = ["run", "-A", "--quiet", MAIN, "model.safetensors", "--no-progress"];
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: folder, encoding: "utf8" });
  if (status !== 0) throw new Error(`Cannot draw the picture: the run ended with ${status}`);
  const lines = stderr.trimEnd().split("\n").flatMap((line) =>
    screenLines(line, { columns: COLUMNS, color: true })
  );
  const text = ["$ npx quantsmith model.safetensors", ...lines].join("\n");
  fs.writeFileSync(PICTURE, ansiPicture(text, { columns: COLUMNS, theme: "dark" }));
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
