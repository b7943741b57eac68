/** Sizes and times in words. */

import { layerName } from "../core/layer_name.ts";
const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Returns a size in bytes as `12.3 GB`, in powers of 1000. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** Returns a time in milliseconds as `850 ms`, `12.3 s`, `4 min 05 s` or `1 h 02 min`. */
export function formatSeconds(elapsedMs: number): string {
  if (elapsedMs < 999.5) return `${Math.round(elapsedMs)} ms`;
  if (elapsedMs < 59_950) return `${(elapsedMs / 1000).toFixed(1)} s`;
  const seconds = Math.round(elapsedMs / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, "0")} s`;
  const rounded = Math.round(seconds / 60);
  return `${Math.floor(rounded / 60)} h ${String(rounded % 60).padStart(2, "0")} min`;
}

/** Returns a time left in milliseconds in whole seconds: `4 s`, `1 min 05 s`, `1 h 02 min`. */
export function formatEta(leftMs: number): string {
  if (leftMs <= 59_000) return `${Math.ceil(leftMs / 1000)} s`;
  return formatSeconds(Math.max(60_000, leftMs));
}

/** Returns a relative error in percent, `0.823 %`, `12.4 %`: three digits, at most three decimals. */
export function formatPercent(ratio: number): string {
  const percent = 100 * ratio;
  if (percent >= 1e6) return "> 1000000 %";
  const decimals = percent >= 99.95 ? 0 : percent >= 9.995 ? 1 : percent >= 0.9995 ? 2 : 3;
  if (percent > 0 && percent < 0.0005) return "< 0.001 %";
  return `${percent.toFixed(decimals)} %`;
}

/**
 * Returns a layer's name in at most `columns` characters: without `.weight`, and if that is too long
 * only its last path segments, which say most: `…17.attn.qkv`. Pure.
 */
export function shortName(name: string, columns: number): string {
  const layer = layerName(name);
  if (layer.length <= columns) return layer;
  const segments = layer.split(".");
  for (let i = 1; i < segments.length; i++) {
    const end = `…${segments.slice(i).join(".")}`;
    if (end.length <= columns) return end;
  }
  return `…${layer.slice(layer.length - columns + 1)}`;
}

/** Most characters of one name, value or sentence in a line. */
const MAX_VISIBLE = 1000;

/** A stranger's text without control characters, which a terminal would obey, and bounded. */
export function visible(text: string): string {
  const start = text.slice(0, MAX_VISIBLE).replaceAll(/\p{Cc}/gu, "?");
  const rest = text.length - MAX_VISIBLE;
  return rest > 0 ? `${start}... (${rest} more characters)` : start;
}
