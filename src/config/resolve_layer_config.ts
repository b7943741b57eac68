/**
 * Which entry of a layer config counts for each layer. The order:
 *
 * 1. A layer that a pattern of `_exclusions` matches is kept.
 * 2. Of the patterns that match, the one that is the layer's exact name; else the one with the longest
 *    literal part; of equals, the one later in the file.
 * 3. If none matches, `_default`; but it does not unkeep a layer that a preset keeps: only naming a
 *    layer does.
 */

import { layerName } from "../core/layer_name.ts";
import { nearest } from "../core/nearest.ts";
import type { LayerConfig } from "./layer_config.ts";
import { type LayerOverride, NO_OVERRIDE } from "./layer_override.ts";
import type { LayerPattern } from "./layer_pattern.ts";
import { NameIndex } from "./name_index.ts";

/** A pattern that matches no layer. */
export interface UnusedPattern {
  readonly pattern: string;
  /** The layer whose name is nearest to it; null if the model has no layers. */
  readonly nearest: string | null;
}

/** A layer config, resolved for the layers of a model. */
export interface ResolvedLayerConfig {
  /** By layer that a pattern matches. */
  readonly overrides: ReadonlyMap<string, LayerOverride>;
  /** For the other layers, if they are quantized; null: they are as the command line says. */
  readonly default: LayerOverride | null;
  /** Patterns of entries and exclusions that match no layer. */
  readonly unused: readonly UnusedPattern[];
}

/** How many unused patterns get a suggestion, and an error lists. */
const LISTED = 5;

/** Returns an index of the names of `layers`, ready for all that patterns ask for. */
function indexFor({ patterns, exclusions }: LayerConfig, layers: readonly string[]): NameIndex {
  const index = new NameIndex(layers.map((layer) => `${layer}.weight`));
  const asked = [...patterns.map(({ pattern }) => pattern), ...exclusions];
  index.prepare(asked.flatMap(({ required }) => required.flat()));
  return index;
}

/** Whether a pattern means a layer: one that is its name need not be matched. */
function means(pattern: LayerPattern, layer: string, options: { fullmatch: boolean }): boolean {
  return (pattern.source === layer && pattern.exact === layer) || pattern.test(layer, options);
}

/**
 * Applies a layer config to the layers of a model.
 *
 * @param layers the names of layers that can be quantized (`blocks.0.attn.q`), each once; `.weight` is
 *   not part of them, but a pattern may have it.
 * @param options `fullmatch`: patterns match whole names, instead of being found in them.
 */
export function resolveLayerConfig(
  config: LayerConfig,
  layers: readonly string[],
  { fullmatch = false }: { fullmatch?: boolean } = {},
): ResolvedLayerConfig {
  const index = indexFor(config, layers);
  const meant = (pattern: LayerPattern, layer: string) => means(pattern, layer, { fullmatch });
  const unused: string[] = [];

  // Exact names first: their layers are settled, and need no matching against all other patterns.
  const places = new Map(layers.map((layer, place) => [layer, place]));
  const best: ({ rank: number; override: LayerOverride } | undefined)[] = new Array(layers.length);
  const named = new Set<LayerPattern>();
  for (const { pattern, override } of config.patterns) {
    const { exact } = pattern;
    for (const name of exact === null ? [] : [exact, layerName(exact)]) {
      const place = places.get(name);
      // `$a` spells out "a" and matches nothing.
      if (place === undefined || !meant(pattern, layers[place]!)) continue;
      best[place] = { rank: Infinity, override };
      named.add(pattern);
    }
  }
  for (const { pattern, override } of config.patterns) {
    const possible = index.candidates(pattern.required);
    let used = named.has(pattern);
    for (const place of possible) {
      const rank = best[place]?.rank ?? 0;
      if (rank > pattern.longest && used) continue; // it would not count
      if (!meant(pattern, layers[place]!)) continue;
      used = true;
      if (pattern.longest >= rank) best[place] = { rank: pattern.longest, override };
    }
    if (!used) unused.push(pattern.source);
  }

  const overrides = new Map<string, LayerOverride>();
  layers.forEach((layer, place) => {
    const match = best[place];
    if (match !== undefined) overrides.set(layer, match.override);
  });
  for (const pattern of config.exclusions) {
    const matches = index.candidates(pattern.required)
      .map((place) => layers[place]!)
      .filter((layer) => meant(pattern, layer));
    if (matches.length === 0) unused.push(pattern.source);
    const origin = `layer config _exclusions ${JSON.stringify(pattern.source)}`;
    for (const layer of matches) overrides.set(layer, { ...NO_OVERRIDE, skip: true, origin });
  }
  return {
    overrides,
    default: config.default,
    unused: unused.map((pattern, i) => ({
      pattern,
      nearest: i < LISTED && layers.length > 0 ? nearest(pattern, layers) : null,
    })),
  };
}
