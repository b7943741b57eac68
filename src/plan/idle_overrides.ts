/** Settings of single layers without effect, reported once each, never silently. Pure. */

import type { LayerOverride } from "../config/layer_override.ts";
import { groupBy } from "../core/group_by.ts";
import type { ConvertOptions } from "./options.ts";

/** The settings of a layer that only matter if it is quantized, as a layer config names them. */
const INT8_FIELDS = {
  blockSize: "block_size",
  scaling: "scaling_mode",
  convrot: "convrot",
  simple: "simple",
  optimizer: "optimizer",
  fullPrecisionMatrixMult: "full_precision_matrix_mult",
} as const satisfies Partial<Record<keyof LayerOverride, string>>;

/** A setting without effect: where it stands, what it is called there, and why. */
interface Idle {
  readonly place: string;
  readonly setting: string;
  readonly why: string;
}

/**
 * Returns one sentence per setting and reason for what layer config, `--custom-layers` and `--fallback`
 * say in vain. Settings of the flags that `readLayerFlags` reports are not reported again.
 */
export function idleOverrides(options: ConvertOptions): string[] {
  if (options.layers === null) return [];
  const { config, flags } = options.layers;
  const entries = [
    ...config?.patterns.map(({ override }) => override) ?? [],
    ...config?.default ? [config.default] : [],
  ];
  const idle = entries.flatMap((entry) => idleFields(entry, options));
  const flagged = [
    ["--custom-block-size", flags.custom?.override ?? null],
    ["--fallback-block-size", flags.fallback],
  ] as const;
  for (const [setting, override] of flagged) {
    if (override === null || override.output === "fp16") continue;
    const why = idleBlockSize(override, options);
    if (why !== null) idle.push({ place: "", setting, why });
  }
  return [...groupBy(idle, ({ setting, why }) => `${setting}\n${why}`).values()].map(sentence);
}

function idleFields(override: LayerOverride, options: ConvertOptions): Idle[] {
  const { origin: place, skip, output } = override;
  if (skip || output === "fp16") {
    const why = skip ? 'beside "skip": true' : 'beside "format": "fp16"';
    return Object.entries(INT8_FIELDS).flatMap(([key, setting]) =>
      override[key as keyof typeof INT8_FIELDS] === null ? [] : [{ place, setting, why }]
    );
  }
  const why = idleBlockSize(override, options);
  return why === null ? [] : [{ place, setting: "block_size", why }];
}

/** Why a block size has no effect; null if it has one, or none is set. */
function idleBlockSize(override: LayerOverride, options: ConvertOptions): string | null {
  if (override.blockSize === null) return null;
  const isRotated = override.convrot !== null && override.convrot !== "off";
  const scaling = override.scaling ??
    (isRotated ? "row" : options.scaling ?? (options.target === "ctq" ? "block" : "row"));
  return scaling === "block" ? null : `with ${scaling} scaling; it applies only to block scaling`;
}

function sentence(idle: readonly Idle[]): string {
  const [{ place, setting, why }] = idle as [Idle];
  const more = idle.length - 1;
  const others = more === 0 ? "" : ` and ${more} more ${more === 1 ? "entry" : "entries"}`;
  const where = place === "" ? "" : ` of ${place}${others}`;
  return `${setting}${where} has no effect ${why}`;
}
