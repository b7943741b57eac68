/**
 * Tables of levels that are fitted to weights (`--codebook fit`): on the same sample of rows that formats are measured
 * on, in bounded memory, before the work. More rows gain little: on a real text encoder (`bench_real.ts`) the error of
 * weights is within 0.1 % of that of tables which are fitted to 1,024 rows, in groups of 16 and of 64. Everything comes
 * from the input and the options, by exact kernels and sums in one order, so that every machine and every part of a
 * conversion finds the same tables.
 */

import { isFitted } from "../../quant/level_grid.ts";
import { InputFiles } from "../../safetensors/input_files.ts";
import type { Prepared } from "../prepare.ts";
import { SampleErrors } from "./sample_errors.ts";

/** Returns `prepared` with fitted tables in the layers that are to have them. */
export function withFittedCodebooks<P extends Prepared>(prepared: P): P {
  const { plan, model, matrixOf } = prepared;
  const wanted = plan.tensors.filter(({ scheme }) => isFitted(scheme?.levels));
  if (wanted.length === 0) return prepared;
  using files = new InputFiles(model.paths);
  const matrices = wanted.map(({ source }) => matrixOf(source));
  const sample = new SampleErrors(files, Math.max(...matrices.map(({ cols }) => cols)));
  const codebooks = new Map(
    wanted.map(({ source, scheme }, at) => [
      source.name,
      sample.codebookOf(matrices[at]!, scheme!),
    ]),
  );
  return { ...prepared, ...prepared.withCodebooks(codebooks) };
}
