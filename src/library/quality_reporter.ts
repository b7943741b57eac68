/** Collects the errors of quantized layers and reports them, the worst first. */

import { STATS, STATS_LENGTH } from "../backend/backend.ts";
import { RUN_DEFAULTS } from "../plan/options.ts";
import {
  type LayerErrors,
  layerErrors,
  overallErrors,
  worstLayersFirst,
} from "../run/layer_statistics.ts";

/** A layer of the report. */
export interface ReportedLayer {
  /** Name of the layer. */
  readonly name: string;
  /** Errors of its weight. */
  readonly errors: LayerErrors;
  /** The SQNR is below the threshold. */
  readonly isLow: boolean;
}

/** All layers, worst first, and the whole: its sums are added, not its ratios. */
export interface QualityReport {
  /** Every layer, the worst first. */
  readonly layers: readonly ReportedLayer[];
  /** Errors of all layers as one weight; null without layers. */
  readonly overall: LayerErrors | null;
}

/**
 * Measures layers as they are given: of the weight that is stored, not of one that is thrown away.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * const reporter = new QualityReporter({ thresholdDb: 30 });
 * reporter.addLayer("blocks.0", Float32Array.of(1, 2), Float32Array.of(1, 1.5));
 * assert.equal(reporter.report().layers[0]?.isLow, true);
 * console.log(reporter.toString());
 * ```
 */
export class QualityReporter {
  /** SQNR in dB below which a layer is low. */
  readonly thresholdDb: number;
  readonly #layers: { name: string; stats: Float64Array; errors: LayerErrors }[] = [];

  /**
   * Starts a report without layers.
   *
   * @throws RangeError if the threshold is no number.
   */
  constructor(
    { thresholdDb = RUN_DEFAULTS.qualityThresholdDb }: { readonly thresholdDb?: number } = {},
  ) {
    if (Number.isNaN(thresholdDb)) throw new RangeError("Cannot report: thresholdDb is NaN");
    this.thresholdDb = thresholdDb;
  }

  /**
   * Adds a layer and returns its errors.
   *
   * @param original and `dequantized` f32, of the same length.
   * @throws RangeError if lengths differ.
   */
  addLayer(name: string, original: Float32Array, dequantized: Float32Array): LayerErrors {
    if (original.length !== dequantized.length) {
      throw new RangeError(
        `Cannot compare layer ${JSON.stringify(name)}: ${original.length} values with ` +
          `${dequantized.length}`,
      );
    }
    const stats = new Float64Array(STATS_LENGTH);
    for (let i = 0; i < original.length; i++) {
      const x = original[i]!, xhat = dequantized[i]!, error = x - xhat;
      stats[STATS.squaredError]! += error * error;
      stats[STATS.squaredSignal]! += x * x;
      stats[STATS.squaredDequantized]! += xhat * xhat;
      stats[STATS.dot]! += x * xhat;
      stats[STATS.maxAbsError] = Math.max(stats[STATS.maxAbsError]!, Math.abs(error));
    }
    stats[STATS.count] = original.length;
    const errors = layerErrors(stats);
    this.#layers.push({ name, stats, errors });
    return errors;
  }

  /** Returns all layers so far. */
  report(): QualityReport {
    return {
      layers: worstLayersFirst(this.#layers).map(({ name, errors }) => ({
        name,
        errors,
        isLow: errors.sqnrDb !== null && errors.sqnrDb < this.thresholdDb,
      })),
      overall: overallErrors(this.#layers),
    };
  }

  /** Returns the report as lines: SQNR in dB, relative error, name. */
  toString(): string {
    const { layers, overall } = this.report();
    if (overall === null) return "No layer was added.";
    const line = (name: string, { sqnrDb, relativeError }: LayerErrors, isLow: boolean): string =>
      `${(sqnrDb === null ? "exact" : `${sqnrDb.toFixed(2)} dB`).padStart(11)}  ` +
      `${relativeError.toExponential(2)}  ${name}${
        isLow ? `  (below ${this.thresholdDb} dB)` : ""
      }`;
    return [
      ...layers.map(({ name, errors, isLow }) => line(name, errors, isLow)),
      line(`all ${layers.length} layers`, overall, false),
    ].join("\n");
  }
}
