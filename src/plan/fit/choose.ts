/**
 * One option for each of many items: the least total loss for what may be spent (the multiple-choice knapsack
 * problem). Pure; nothing in it knows of layers or bytes.
 *
 * A Lagrangian sweep gives a choice at once: options of an item that lie on its lower convex hull, taken in
 * order of what they gain per cost, until the limit (Sinha and Zoltners 1979). It is the best choice for
 * every limit that it hits exactly; between those, an exact finish looks among the few options that can still
 * matter (Pisinger 1995): with the multiplier m of the last step taken, choosing option j of item i gives away
 *
 *     r_ij = (loss_ij + m cost_ij) - min over j of (loss_ij + m cost_ij) >= 0,
 *
 * and a total is the bound sum_i min_j (loss + m cost) - m limit, plus the r of all that is chosen, plus m times
 * what is left of the limit. Options with r over the gap between the sweep's total and the bound are in no
 * better choice; over the others, item by item, all totals that no other beats are kept. They are few, as the
 * gap is less than one step of the sweep. If they get more than {@link STATES_MAX}, the nearest to the bound are
 * kept, and the result says that it may not be the best.
 */

/** An option of an item. */
export interface Option {
  readonly cost: number;
  readonly loss: number;
}

/** What was chosen. */
export interface Choice {
  /** The index of the option of every item. */
  readonly options: readonly number[];
  readonly cost: number;
  readonly loss: number;
  /** Whether no other choice within the limit has less loss. */
  readonly isBest: boolean;
}

/** Totals that are kept at most. */
const STATES_MAX = 20_000;

/** A step of the sweep: one item goes from one option to the next on its hull. */
interface Step {
  readonly item: number;
  readonly from: number;
  readonly option: number;
  readonly cost: number;
  /** How much loss it saves. */
  readonly gain: number;
}

/**
 * Returns the choice of least loss among those that cost at most `limit`; null if there is none. Of options with
 * the same loss the cheaper one is taken. Costs and losses are finite.
 */
export function choose(items: readonly (readonly Option[])[], limit: number): Choice | null {
  const swept = sweep(items);
  const first = total(items, swept.start);
  if (first.cost > limit) return null;
  const options = [...swept.start];
  let { cost } = first, multiplier = 0, isOpen = false;
  for (const step of swept.steps) {
    if (cost + step.cost > limit) {
      if (!isOpen) multiplier = step.gain / step.cost;
      isOpen = true;
      continue;
    }
    // After the first step that does not fit, smaller ones fill what is left, each on its item's own hull.
    if (options[step.item] !== step.from) continue;
    cost += step.cost;
    options[step.item] = step.option;
  }
  const found = total(items, options);
  if (!isOpen) return { options, ...found, isBest: true };
  return finish(items, limit, { options, ...found, multiplier });
}

/** The choices of the sweep, from the cheapest to the one of least loss: each is the best of its cost. */
export function frontier(
  items: readonly (readonly Option[])[],
): Omit<Choice, "options" | "isBest">[] {
  const { start, steps } = sweep(items);
  let { cost, loss } = total(items, start);
  return [
    { cost, loss },
    ...steps.map((step) => {
      cost += step.cost;
      loss -= step.gain;
      return { cost, loss };
    }),
  ];
}

function total(items: readonly (readonly Option[])[], options: readonly number[]) {
  let cost = 0, loss = 0;
  options.forEach((option, item) => {
    cost += items[item]![option]!.cost;
    loss += items[item]![option]!.loss;
  });
  return { cost, loss };
}

/** The cheapest option of every item, and the steps from there, the most worthwhile first. */
function sweep(items: readonly (readonly Option[])[]): { start: number[]; steps: Step[] } {
  const start: number[] = [], steps: Step[] = [];
  items.forEach((options, item) => {
    const hull = hullOf(options);
    start.push(hull[0]!);
    for (let k = 1; k < hull.length; k++) {
      const [from, option] = [hull[k - 1]!, hull[k]!];
      const cost = options[option]!.cost - options[from]!.cost;
      steps.push({ item, from, option, cost, gain: options[from]!.loss - options[option]!.loss });
    }
  });
  // Steps of one item stay in order: along a hull gains per cost only fall. Ties go by the order of items.
  steps.sort((a, b) => b.gain * a.cost - a.gain * b.cost || a.item - b.item || a.cost - b.cost);
  return { start, steps };
}

/** The options on the lower convex hull, the cheapest first, losses falling. */
function hullOf(options: readonly Option[]): number[] {
  const order = options.map((_, k) => k).sort((a, b) =>
    options[a]!.cost - options[b]!.cost || options[a]!.loss - options[b]!.loss
  );
  const hull: number[] = [];
  for (const k of order) {
    const { cost, loss } = options[k]!;
    if (hull.length > 0 && loss >= options[hull.at(-1)!]!.loss) continue;
    while (hull.length > 1) {
      const a = options[hull.at(-2)!]!, b = options[hull.at(-1)!]!;
      if ((a.loss - b.loss) * (cost - b.cost) > (b.loss - loss) * (b.cost - a.cost)) break;
      hull.pop();
    }
    hull.push(k);
  }
  return hull;
}

/** A total over the first items: what was chosen is a chain back to the first. */
interface State {
  readonly cost: number;
  readonly loss: number;
  /** The sum of r. */
  readonly lost: number;
  readonly option: number;
  readonly before: State | null;
}

/** Looks for a choice better than `found`. */
function finish(
  items: readonly (readonly Option[])[],
  limit: number,
  found: { options: readonly number[]; cost: number; loss: number; multiplier: number },
): Choice {
  const { multiplier } = found;
  const priced = items.map((options) => options.map(({ cost, loss }) => loss + multiplier * cost));
  const least = priced.map((values) => Math.min(...values));
  const bound = least.reduce((sum, value) => sum + value, 0) - multiplier * limit;
  // Rounding of the sums must not exclude what is as good.
  const gap = (found.loss - bound) * (1 + 1e-9) + Number.MIN_VALUE;
  let states: State[] = [{ cost: 0, loss: 0, lost: 0, option: -1, before: null }];
  let isBest = true;
  items.forEach((options, item) => {
    const open = options.map((option, index) => ({
      ...option,
      index,
      lost: priced[item]![index]! - least[item]!,
    })).filter(({ lost }) => lost <= gap);
    const next: State[] = [];
    for (const before of states) {
      for (const { cost, loss, lost, index } of open) {
        if (before.lost + lost > gap || before.cost + cost > limit) continue;
        next.push({
          cost: before.cost + cost,
          loss: before.loss + loss,
          lost: before.lost + lost,
          option: index,
          before,
        });
      }
    }
    states = undominated(next);
    if (states.length > STATES_MAX) {
      isBest = false;
      states = states.sort((a, b) => a.lost - b.lost).slice(0, STATES_MAX);
    }
  });
  const best = states.reduce<State | null>(
    (best, state) => best === null || state.loss < best.loss ? state : best,
    null,
  );
  if (best === null || best.loss >= found.loss) {
    const { options, cost, loss } = found;
    return { options, cost, loss, isBest };
  }
  const options: number[] = [];
  for (let state: State = best; state.before !== null; state = state.before) {
    options.push(state.option);
  }
  return { options: options.reverse(), cost: best.cost, loss: best.loss, isBest };
}

/** The states that no other undercuts in both cost and loss. */
function undominated(states: State[]): State[] {
  states.sort((a, b) => a.cost - b.cost || a.loss - b.loss);
  const kept: State[] = [];
  for (const state of states) {
    if (kept.length === 0 || state.loss < kept.at(-1)!.loss) kept.push(state);
  }
  return kept;
}
