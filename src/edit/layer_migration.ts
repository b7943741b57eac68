/** Result of the migration of one layer. */

import type { MatrixSource } from "../formats/matrix_source.ts";
import type { QuantizedLayer } from "../formats/quant_layers.ts";
import type { LayerObject } from "./layer_objects.ts";
import type { Operation } from "./operation.ts";

/** Migration of one layer. */
export interface LayerMigration {
  readonly layer: QuantizedLayer;
  /** Empty: it is as it should be. */
  readonly operations: readonly Operation[];
  /** Its new marker; null: it is left alone. */
  readonly object: LayerObject | null;
  /** How its stored values are read, if they are rounded once more; else null. */
  readonly matrix: MatrixSource | null;
  /** Why it does not get the format that was asked for, as a sentence without its period. */
  readonly kept?: string;
}

/** A layer that cannot be made loadable. */
export interface Refusal {
  readonly layer: string;
  /** Id of the rule, as `verify` names it. */
  readonly rule: string;
  /** The obstacle, as a sentence without its period. */
  readonly why: string;
}
