/**
 * Prints the table of sizes in the README: what real models take in BF16 and in each format, from their headers
 * (`tests/headers`) and the plan alone.
 *
 *     deno run -A --config deno.dev.json scripts/size_table.ts
 */

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { prepare } from "../src/convert/prepare.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../src/plan/options.ts";
import { writeSparseModel } from "../tests/support/header_files.ts";
import { renderTable } from "./support/table.ts";

const MODELS = [
  ["flux1-dev", "FLUX.1 dev"],
  ["flux2-klein-4b", "FLUX.2 klein 4B"],
  ["flux2-dev", "FLUX.2 dev"],
  ["qwen-image", "Qwen-Image"],
  ["wan2.2-t2v-14b-fp16", "Wan 2.2 14B, one of two models"],
  ["z-image-turbo", "Z-Image turbo"],
  ["t5xxl-fp16", "T5-XXL text encoder"],
] as const;

const FORMATS: readonly ConvertOptions["output"][] = ["int8", "w6a8", "w4a8"];

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-sizes-"));
const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
try {
  const rows = MODELS.map(([name, title]) => {
    const file = writeSparseModel(name, folder);
    const totals = FORMATS.map((output) =>
      prepare(file, { ...DEFAULT_CONVERT_OPTIONS, output }, { dryRun: true }).plan.totals
    );
    return [
      title,
      gigabytes(totals[0]!.inputBytes),
      ...totals.map(({ outputBytes }) => gigabytes(outputBytes)),
    ];
  });
  console.log(renderTable([["model", "before", ...FORMATS], ...rows]));
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
