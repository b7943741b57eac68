/**
 * Sections of sizes, so that a choice is never worse than all items in one format: from the size on at which all
 * items fit in a format, no item gets less. Errors that are measured item by item do not say this by themselves: they
 * rank formats far better than items, so that a few items in a poor format look cheaper than they are
 * (docs/methods.md). Pure.
 */

import { type Choice, choose, frontier, type Option } from "./choose.ts";

/** Sizes with the same formats. */
export interface Section {
  /** The least total cost. */
  readonly from: number;
  /** Costs from here on are the next one's. */
  readonly to: number;
  /** The options of every item; those that are not allowed here cost more than any limit. */
  readonly items: readonly (readonly Option[])[];
}

/** An option that is never taken. */
const IMPOSSIBLE: Option = Object.freeze({ cost: Infinity, loss: Infinity });

/**
 * Returns the sections, the smallest sizes first.
 *
 * @param items the options of every item. @param formats their formats.
 * @param singles the total cost of all items in a format; formats without one are allowed everywhere.
 */
export function sectionsOf<F>(
  items: readonly (readonly Option[])[],
  formats: readonly (readonly F[])[],
  singles: ReadonlyMap<F, number>,
): Section[] {
  const starts = [...new Set(singles.values())].sort((a, b) => a - b);
  return starts.map((start, k) => ({
    // The first one has all formats, which may fit below it, too.
    from: k === 0 ? -Infinity : start,
    to: starts[k + 1] ?? Infinity,
    items: items.map((options, item) =>
      options.map((option, at) =>
        (singles.get(formats[item]![at]!) ?? Infinity) >= start ? option : IMPOSSIBLE
      )
    ),
  }));
}

/** The choice of least loss that costs at most `limit`; null if there is none. */
export function chooseWithin(sections: readonly Section[], limit: number): Choice | null {
  for (const { from, items } of sections.toReversed()) {
    const choice = from > limit ? null : choose(items, limit);
    if (choice !== null) return choice;
  }
  return null;
}

/** The choice of least cost whose loss is at most `most`; null if there is none. */
export function cheapest(sections: readonly Section[], most: number): Choice | null {
  let found: Choice | null = null;
  for (const { to, items } of sections) {
    const swapped = items.map((options) =>
      options.map(({ cost, loss }) => ({ cost: loss, loss: cost }))
    );
    const choice = choose(swapped, most);
    if (choice === null) continue;
    found = { ...choice, cost: choice.loss, loss: choice.cost };
    if (found.cost < to) break;
  }
  return found;
}

/** The choices of the sweeps of all sections, from the cheapest to the one of least loss. */
export function frontierOf(sections: readonly Section[]): { cost: number; loss: number }[] {
  const points = sections.flatMap(({ from, to, items }) =>
    frontier(items).filter(({ cost }) => cost >= from && cost < to)
  );
  // A poor format that looks better than the next one's beginning is not chosen beyond it.
  return points.filter(({ loss }, at) => points.every((later, k) => k <= at || later.loss <= loss));
}
