"""Which layers' second moments are summed up in which run: K² numbers a layer, too many for all layers at once.

Layers are taken in passes whose moments fit a limit of memory. The first of every four runs is left out of
all moments: its rows judge what is fitted to them, and come last in the file.
"""

LEFT_OUT = 4
"""One run of so many is left out."""

RUNS_EACH = 3
"""Runs of a pass if the capture has no end."""


def is_left_out(run):
    """Whether run number `run` (from 0) is in no moments."""
    return run % LEFT_OUT == 0


class MomentPasses:
    """Passes over the layers of a model."""

    def __init__(self, columns, limit_bytes, runs):
        """columns: dict of name -> K. limit_bytes: of the moments of one pass; 0: none are summed up. runs: of
        the whole capture; 0: no end."""
        self.too_large = [name for name, k in columns.items() if 4 * k * k > limit_bytes]
        self.passes, size = [], 0
        for name, k in columns.items():
            need = 4 * k * k
            if need > limit_bytes:
                continue
            if not self.passes or size + need > limit_bytes:
                self.passes.append([])
                size = 0
            self.passes[-1].append(name)
            size += need
        useful = runs - -(-runs // LEFT_OUT)
        self.runs_each = RUNS_EACH if runs == 0 else max(1, useful // max(1, len(self.passes)))

    @property
    def least_runs(self):
        """Runs that a capture needs for all passes: one each, and those that are left out."""
        count = len(self.passes)
        return count + -(-count // (LEFT_OUT - 1))

    def index(self, run):
        """The pass of a run; None: no moments are summed up in it."""
        if is_left_out(run):
            return None
        index = (run - run // LEFT_OUT - 1) // self.runs_each
        return index if index < len(self.passes) else None

    def names(self, run):
        """The layers whose moments are summed up in a run."""
        index = self.index(run)
        return [] if index is None else self.passes[index]

    def are_done(self, index, runs):
        """Whether pass `index` is over after `runs` runs."""
        return all(self.index(run) != index for run in range(runs, runs + LEFT_OUT))
