import assert from "node:assert/strict";
import { formatCount, inspectionLines } from "../../src/cli/inspect_report.ts";
import type { Inspection } from "../../src/convert/inspect.ts";

const INSPECTION: Inspection = {
  path: "m.safetensors",
  files: ["m.safetensors"],
  fileBytes: 2_000_000,
  tensors: 3,
  parameters: 1_500_000,
  dtypes: { I8: 2, BF16: 1 },
  dtypeBytes: { I8: 1_900_000, BF16: 200 },
  quantized: { int8_tensorwise: 2 },
  convrotGroups: { 256: 2 },
  markerProblems: [],
  metadata: {},
  detection: { family: null, prefix: "", layout: "unknown", evidence: [], stacks: [] },
  explanation: "unknown model",
  largest: [],
};

Deno.test("inspectionLines() aligns what it counts", () => {
  assert.deepEqual(inspectionLines(INSPECTION), [
    "m.safetensors",
    "  size       2.00 MB",
    "  tensors    3, 1.5 million parameters",
    "  model      unknown model",
    "  quantized  2 int8_tensorwise layers (2 rotated in groups of 256)",
    "",
    "    dtype  tensors     size",
    "    I8           2  1.90 MB",
    "    BF16         1    200 B",
  ]);
});

Deno.test("inspectionLines() cuts long metadata and hides control characters", () => {
  const metadata = { config: "x".repeat(500), "k\n": "\u001b[31m" };
  const lines = inspectionLines({ ...INSPECTION, metadata }).slice(-2);
  assert.deepEqual(lines, [`    config  ${"x".repeat(60)}... (500)`, "    k?      ?[31m"]);
});

Deno.test("inspectionLines() lists the first layers with problems and counts the rest", () => {
  const markerProblems = Array.from({ length: 7 }, (_, i) => `problem ${i}`);
  const lines = inspectionLines({ ...INSPECTION, markerProblems });
  assert(lines.includes("    problem 4") && !lines.includes("    problem 5"));
  assert(lines.includes("    and 2 more"));
});

Deno.test("formatCount() gives three digits and a word", () => {
  assert.deepEqual([45_120, 812e6, 9.076e9, 1e12].map(formatCount), [
    "45,120",
    "812 million",
    "9.08 billion",
    "1 trillion",
  ]);
});
