/**
 * Statistics of single experts: which of a calibration file belong to the experts of a bank `[E, N, K]`, by the
 * names `B.3` and `P.3.X` for the expert 3 of the bank `B`, or `P.X`.
 */

import { layerName } from "../core/layer_name.ts";
import { FormatError } from "../core/errors.ts";
import type { Tensors } from "../core/tensor.ts";
import type { Calibration } from "./calibration.ts";
import { expertName } from "./expert_name.ts";

/** A statistic of one expert. */
const NUMBERED = /^(.+)\.(\d+)(?:\.(.+))?$/;

/**
 * Returns calibration data in which every expert of the model is called {@link expertName}.
 *
 * @param tensors of the model.
 * @throws FormatError if the data knows one expert under two names, or more experts than the bank has.
 */
export function nameExperts(calibration: Calibration, tensors: Tensors): Calibration {
  const banks = new Map(
    tensors.filter(({ shape }) => shape.length === 3)
      .map(({ name, shape }) => [layerName(name), shape[0]!]),
  );
  if (banks.size === 0) return calibration;
  const { path, fields, layers } = calibration;
  const named = new Map<string, string>();
  const taken = new Map<string, string>();
  for (const name of fields.keys()) {
    const canonical = banks.has(name) ? name : expertOf(name, banks, path) ?? name;
    const before = taken.get(canonical);
    if (before !== undefined) {
      throw new FormatError(`it has one expert twice: as ${before} and as ${name}`, {
        path,
        hint: "take one of them out",
      });
    }
    taken.set(canonical, name);
    named.set(name, canonical);
  }
  const renamed = <T>(map: ReadonlyMap<string, T>) =>
    new Map([...map].map(([name, value]) => [named.get(name) ?? name, value]));
  return { ...calibration, fields: renamed(fields), layers: renamed(layers) };
}

function expertOf(name: string, banks: ReadonlyMap<string, number>, path: string): string | null {
  const [, before = "", number = "", after] = name.match(NUMBERED) ?? [];
  const bank = after === undefined ? before : `${before}.${after}`;
  const experts = banks.get(bank);
  if (experts === undefined) return null;
  if (Number(number) < experts) return expertName(bank, Number(number));
  throw new FormatError(
    `it has expert ${number} of ${JSON.stringify(bank)}, which has ${experts}`,
    {
      path,
      hint: "experts are counted from 0; calibrate with this model",
    },
  );
}

/** Returns the experts of a bank of which the data knows something, in order. */
export function knownExperts(
  known: { has(layer: string): boolean },
  layer: string,
  experts: number,
): number[] {
  return Array.from({ length: experts }, (_, expert) => expert)
    .filter((expert) => known.has(expertName(layer, expert)));
}

/** Returns the name that statistics of an expert have: its own, or that of its bank. */
export function statisticsName(
  known: { has(layer: string): boolean },
  layer: string,
  expert: number | undefined,
): string {
  if (expert === undefined) return layer;
  const own = expertName(layer, expert);
  return known.has(own) ? own : layer;
}
