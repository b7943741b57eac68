"""Rows and channel statistics of the inputs of linear layers, recorded by forward pre-hooks.

Second moments are summed up for those layers that `start` names: 4 K² bytes each, on the device during a run
and on the CPU.

Memory: the rows that are kept lie in CPU memory, 2 bytes per number; on the device at most
`PENDING_BYTES` wait to be copied, so that a step stops for the copy a few times, not once per layer.
"""

import torch

from .reservoir import Reservoir

PENDING_BYTES = 256 << 20


class LayerRecord:
    """Statistics of the inputs of one module: rows, their origins, channel statistics."""

    def __init__(self, columns, capacity, seed):
        self.columns = columns
        self.reservoir = Reservoir(capacity, seed)
        self.rows = None
        self.origins = torch.full((capacity,), -1, dtype=torch.int32)
        self.channel_max = torch.zeros(columns)
        self.mean_sum = torch.zeros(columns, dtype=torch.float64)
        self.mean_count = torch.zeros(columns, dtype=torch.float64)
        self._device_stats = None
        self.moments = None
        self.moment_count = 0
        self._device_moments = None

    def add_moments(self, x):
        """Adds the second moments of the finite rows of `x` [n, K], on the device of `x`, in F32."""
        x = x[torch.isfinite(x).all(1)].float()
        if self._device_moments is None or self._device_moments.device != x.device:
            self.flush_moments()
            self._device_moments = torch.zeros((self.columns, self.columns), device=x.device)
        self._device_moments.addmm_(x.t(), x)
        self.moment_count += x.shape[0]

    def flush_moments(self):
        """Brings the second moments of the device to the CPU, and frees them there."""
        if self._device_moments is None:
            return
        moments, self._device_moments = self._device_moments.cpu(), None
        self.moments = moments if self.moments is None else self.moments.add_(moments)

    def mean_moments(self):
        """Returns the second moments of one row, symmetric; None if none were summed up."""
        if self.moments is None or self.moment_count == 0:
            return None
        return (self.moments + self.moments.t()) / (2 * self.moment_count)

    def add_statistics(self, x):
        """Adds the channel statistics of `x` [n, K]; a channel that is not finite in this call is left out."""
        high, low = x.amax(0), x.amin(0)
        largest = torch.maximum(high, low.neg()).float()
        mean = x.mean(0, dtype=torch.float32)
        ok = torch.isfinite(largest) & torch.isfinite(mean)
        n = float(x.shape[0])
        largest, mean = torch.where(ok, largest, 0), torch.where(ok, mean * n, 0)
        count = ok.float() * n
        stats = self._device_stats
        if stats is None or stats[0].device != x.device:
            self.flush_statistics()
            self._device_stats = [largest, mean, count]
        else:
            torch.maximum(stats[0], largest, out=stats[0])
            stats[1] += mean
            stats[2] += count

    def flush_statistics(self):
        """Brings the statistics of the device to the CPU."""
        if self._device_stats is None:
            return
        largest, total, count = (t.cpu() for t in self._device_stats)
        self._device_stats = None
        self.channel_max = torch.maximum(self.channel_max, largest)
        self.mean_sum += total.double()
        self.mean_count += count.double()

    def store(self, slots, rows, origin):
        """Puts finite rows (CPU, [m, K]) into slots; returns how many were not finite and were dropped."""
        finite = torch.isfinite(rows.float()).all(1)
        dtype = torch.float16 if rows.dtype == torch.float16 else torch.bfloat16
        if self.rows is None:
            self.rows = torch.empty((self.reservoir.capacity, self.columns), dtype=dtype)
        kept = slots[finite]
        self.rows[kept] = rows[finite].to(self.rows.dtype)
        self.origins[kept] = origin
        self.origins[slots[~finite]] = -1
        return int((~finite).sum())

    def origin_counts(self, last=None):
        """Returns the origins that rows are kept of, ascending, and how many of each.

        last: says of an origin whether it comes behind the others; None: none does.
        """
        origins, counts = torch.unique(self.origins[self.origins >= 0], return_counts=True)
        pairs = sorted(zip(origins.tolist(), counts.tolist()), key=lambda pair: _order(pair[0], last))
        return [origin for origin, _ in pairs], [count for _, count in pairs]

    def ordered(self, last=None):
        """Returns the rows, [T, K], those of one origin beside one another, in the order of `origin_counts`."""
        if self.rows is None:
            return torch.empty((0, self.columns))
        parts = [torch.nonzero(self.origins == origin)[:, 0] for origin in self.origin_counts(last)[0]]
        return self.rows[torch.cat(parts)] if parts else self.rows[:0]


def _order(origin, last):
    return (last is not None and last(origin), origin)


class Recorder:
    """Records the inputs of modules between `start()` and `stop()`."""

    def __init__(self, modules, rows, seed=0):
        """modules: dict of name -> torch.nn.Module with `in_features`."""
        self.modules = modules
        self.capacity = rows
        self.layers = {n: LayerRecord(m.in_features, rows, seed) for n, m in modules.items()}
        self.dropped_rows = 0
        self.origin = 0
        self._pending = []
        self._pending_bytes = 0
        self._handles = []
        self._summed = set()

    def start(self, origin, summed=()):
        """Hooks the modules; rows that pass from here on are of `origin`, a small whole number.

        summed: names of the modules whose second moments are summed up.
        """
        self.stop()
        self.origin = origin
        self._summed = {id(self.layers[name]) for name in summed}
        for name, module in self.modules.items():
            self._handles.append(module.register_forward_pre_hook(self._hook(self.layers[name])))

    def stop(self):
        """Removes the hooks and brings everything to the CPU."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.flush_rows()
        for layer in self.layers.values():
            layer.flush_statistics()
            layer.flush_moments()

    def _hook(self, layer):
        def record(_module, inputs):
            if inputs and torch.is_tensor(inputs[0]):
                self._record(layer, inputs[0].detach())

        return record

    def _record(self, layer, x):
        x = x.reshape(-1, x.shape[-1])
        if x.shape[0] == 0 or x.shape[1] != layer.columns:
            return
        layer.add_statistics(x)
        if id(layer) in self._summed:
            layer.add_moments(x)
        chosen = layer.reservoir.take(x.shape[0])
        if not chosen:
            return
        slots = torch.tensor(list(chosen), dtype=torch.long)
        index = torch.tensor(list(chosen.values()), dtype=torch.long)
        rows = x.index_select(0, index.to(x.device, non_blocking=True))
        self._pending.append((layer, slots, rows))
        self._pending_bytes += rows.numel() * rows.element_size()
        if self._pending_bytes >= PENDING_BYTES or x.device.type == "cpu":
            self.flush_rows()

    def flush_rows(self):
        """Copies the rows that wait on the device to their slots."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        for layer, slots, rows in pending:
            self.dropped_rows += layer.store(slots, rows.cpu(), self.origin)

    def rows_seen(self):
        """Rows of all layers that passed, and rows that are kept."""
        kept = sum(int((layer.origins >= 0).sum()) for layer in self.layers.values())
        return sum(layer.reservoir.seen for layer in self.layers.values()), kept
