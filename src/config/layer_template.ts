/** A layer config that says of every layer of a model what would be done with it anyway. */

import type { LayerEntry } from "./layer_config.ts";
import { patternOfName } from "./layer_pattern.ts";

/** One layer and its entry. */
export interface TemplateLayer {
  /** The layer's name, without `.weight`. */
  readonly name: string;
  /** Its planned settings; `{skip: true}` if it is kept, with `kept_as` if as BF16. */
  readonly entry: LayerEntry;
}

const COMMENT =
  "Every key is a regular expression found in layer names. The exact name of a layer " +
  "wins, then the pattern with the longest literal part, then the later one. Fields: format, " +
  "group_size, codebook, linear_dtype, scaling_mode, block_size, convrot, optimizer, simple, " +
  "full_precision_matrix_mult, skip, kept_as.";

/**
 * Returns the text of a layer config with one line per layer, which `parseLayerConfig` accepts as it
 * is and which changes nothing of the plan it was made from.
 *
 * @param layers the layers of a model, each once.
 * @throws RangeError if there are none, or one is there twice.
 */
export function layerConfigTemplate(layers: readonly TemplateLayer[]): string {
  if (layers.length === 0) throw new RangeError("Cannot make a layer config: there are no layers");
  const seen = new Set<string>();
  const lines = layers.map(({ name, entry }) => {
    if (seen.has(name)) {
      throw new RangeError(
        `Cannot make a layer config: layer ${JSON.stringify(name)} is there twice`,
      );
    }
    seen.add(name);
    const fields = Object.entries(entry).map(([field, value]) =>
      `${JSON.stringify(field)}: ${JSON.stringify(value)}`
    );
    return `    ${JSON.stringify(patternOfName(name))}: {${fields.join(", ")}}`;
  });
  return `{
  "_comment": ${JSON.stringify(COMMENT)},
  "layer_patterns": {
${lines.join(",\n")}
  }
}
`;
}
