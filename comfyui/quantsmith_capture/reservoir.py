"""Uniform samples of a stream of unknown length: Li's Algorithm L (ACM TOMS 20:4, 1994).

Every row that ever passed has the same chance to be among the rows that are kept, so rows are spread
over prompts, steps and both halves of guidance as the stream itself is. The choice depends on the seed
and the position in the stream only: layers that take the same inputs keep the same rows, byte for byte.
"""

import math
import random


class Reservoir:
    """Which rows of a stream are kept, and in which of `capacity` slots. It holds numbers, no rows."""

    def __init__(self, capacity, seed=0):
        if capacity < 1:
            raise ValueError(f"a reservoir needs at least one slot, not {capacity}")
        self.capacity = capacity
        self.seed = seed
        self.seen = 0
        self._width = 1.0
        self._next = None

    def take(self, count):
        """Returns the rows to keep of the next `count` rows: a dict from slot to row (0 <= row < count)."""
        start, end = self.seen, self.seen + count
        self.seen = end
        chosen = {slot: slot - start for slot in range(start, min(end, self.capacity))}
        if end < self.capacity:
            return chosen
        rng = random.Random(f"{self.seed}/{start}")
        if self._next is None:
            self._next = self.capacity - 1
            self._skip(rng)
        while self._next < end:
            chosen[rng.randrange(self.capacity)] = self._next - start
            self._skip(rng)
        return chosen

    def _skip(self, rng):
        self._width *= math.exp(math.log(_positive(rng)) / self.capacity)
        gap = math.log(_positive(rng)) / math.log1p(-self._width) if self._width < 1.0 else 0.0
        self._next += math.floor(gap) + 1

    def state(self):
        """Returns what `restore` needs, as plain numbers."""
        return [self.seen, self._width, self._next]

    def restore(self, state):
        """Goes on from `state`."""
        self.seen, self._width, self._next = state


def _positive(rng):
    """A number in (0, 1): its logarithm is finite."""
    return 1.0 - rng.random() or 0.5
