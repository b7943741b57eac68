"""One capture: a recorder, the names of its layers, and the file that it grows in, over several runs."""

import atexit
import json
import logging
import os
import time

import torch

from .calibration_file import (
    CAPTURE_KEY,
    FORMAT,
    MOMENTS_KEY,
    ORIGINS_KEY,
    FileTensor,
    read_calibration,
    stored_moments,
    write_calibration,
)
from .moment_passes import MomentPasses, is_left_out
from .recorder import Recorder

VERSION = "0.1.0"
SIGMAS_MAX = 256

log = logging.getLogger("quantsmith")


class CaptureRefused(ValueError):
    """The model or the file cannot be captured from or into; the message says why and what to do."""


def linear_modules(root):
    """Returns the linear layers of a loaded model by name.

    Raises CaptureRefused if a weight is not plain F16, BF16 or F32: the inputs of a quantized model are
    not those of the model that is to be quantized, and some of its layers bypass the forward that is hooked.
    """
    modules = {}
    for name, module in root.named_modules():
        weight = getattr(module, "weight", None)
        is_linear = isinstance(module, torch.nn.Linear) or (
            hasattr(module, "in_features") and hasattr(module, "out_features")
        )
        if not is_linear or weight is None:
            continue
        plain = getattr(weight, "data", weight)
        kind = type(plain).__name__
        if kind not in ("Tensor", "Parameter") or weight.dtype not in (torch.float16, torch.bfloat16, torch.float32):
            dtype = str(getattr(weight, "dtype", "")).replace("torch.", "")
            raise CaptureRefused(
                f'the layer "{name}" is quantized ({kind} {dtype}): load the original BF16, F16 or F32 file, '
                "with weight_dtype default, and capture from that"
            )
        modules[name] = module
    if not modules:
        raise CaptureRefused("the model has no linear layers that can be hooked")
    return modules


class Session:
    """Calibration data of one model on its way into one file."""

    def __init__(
        self, path, modules, layers, *, model, rows, runs, memory_bytes, moment_bytes=0, seed=0, start_over=False
    ):
        """path: of the calibration file. layers: dict of module name -> list of StoredLayer. model: dict with
        the name and size of the model's file. rows: kept per layer, fewer if `memory_bytes` holds fewer.
        runs: after how many the capture is complete; 0: never. moment_bytes: of the second moments that are
        summed up at a time; 0: none are.
        """
        self.path, self.layers, self.model, self.runs = path, layers, model, runs
        self.asked_rows = rows
        columns = sum(modules[name].in_features for name in layers)
        self.rows = max(1, min(rows, int(memory_bytes // max(1, 2 * columns))))
        self.recorder = Recorder({name: modules[name] for name in layers}, self.rows, seed)
        self.moment_bytes = moment_bytes
        self.passes = MomentPasses({name: modules[name].in_features for name in layers}, moment_bytes, runs)
        if 0 < runs < self.passes.least_runs:
            raise CaptureRefused(
                f"second moments of {len(layers)} layers take {len(self.passes.passes)} passes of at least one run: "
                f"ask for {self.passes.least_runs} runs or more, allow more moments_gb, or switch moments off"
            )
        self._stored_moments = {}
        self.done_runs, self.sigmas, self.bytes_written, self.failure = 0, set(), 0, None
        self.is_saved, self._next_save, self._seen_before = True, 0.0, 0
        if os.path.exists(path) and not start_over:
            self._restore()
        atexit.register(self.save)

    @property
    def is_complete(self):
        """Whether nothing more is recorded."""
        return self.runs > 0 and self.done_runs >= self.runs

    def attach(self, modules):
        """Records from these modules from now on: the model may have been loaded again."""
        self.recorder.modules = {name: modules[name] for name in self.layers}

    def begin(self):
        """Hooks the layers for one run: an image, or a prompt."""
        self._seen_before = self.recorder.rows_seen()[0]
        self.recorder.start(self.done_runs, self.passes.names(self.done_runs))

    def see_sigma(self, sigma):
        if len(self.sigmas) < SIGMAS_MAX:
            self.sigmas.add(round(float(sigma), 4))

    def end(self):
        """Ends a run, interrupted or not: it counts if rows passed. Then the file is written, if it is time."""
        self.recorder.stop()
        if self.recorder.rows_seen()[0] == self._seen_before:
            return
        self.done_runs += 1
        self.is_saved = False
        # A large file is not written after every image: at most a tenth of the time goes into writing.
        if self.is_complete or time.monotonic() >= self._next_save:
            self.save()

    def save(self):
        """Writes the file. An error does not end the user's run: it is logged and shown, and rows are kept."""
        if self.is_saved:
            return
        started = time.monotonic()
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            tensors, origins = self._tensors()
            if tensors:
                self.bytes_written = write_calibration(self.path, tensors, self._metadata(origins))
                self._leave_moments()
            self.failure, self.is_saved = None, True
        except OSError as error:
            self.failure = f"{self.path} could not be written ({error.strerror or error}): free space, then run again"
            log.error("quantsmith: %s", self.failure)
        now = time.monotonic()
        self._next_save = now + 10 * (now - started)

    def status(self):
        """A line for people."""
        if self.failure is not None:
            return self.failure
        if self.done_runs == 0:
            return f"ready: {self.rows} rows per layer, {len(self.layers)} layers; run the workflow to fill {self.path}"
        kept = self.recorder.rows_seen()[1]
        empty = sum(1 for layer in self.recorder.layers.values() if layer.reservoir.seen == 0)
        total = len(self.recorder.layers)
        of = f" of {self.runs}" if self.runs else ""
        line = f"run {self.done_runs}{of}: {kept} rows of {total - empty} layers, {_size(self.bytes_written)} in {self.path}"
        if not self.is_saved:
            line += " (new rows are written with one of the next runs, or when ComfyUI ends)"
        if self.is_complete:
            line = f"complete. {line}"
        if self.rows < self.asked_rows:
            line += f" ({self.rows} rows per layer instead of {self.asked_rows}: the memory limit)"
        if empty:
            line += f"; {empty} layers saw no inputs"
        if self.moment_bytes > 0:
            now = self.passes.index(self.done_runs)
            passes = len(self.passes.passes)
            line += f"; second moments: pass {passes if now is None else now + 1} of {passes}"
            if self.passes.too_large:
                line += f", {len(self.passes.too_large)} layers left out: the memory limit"
        if self.recorder.dropped_rows:
            line += f"; {self.recorder.dropped_rows} rows with NaN or infinity dropped"
        return line

    @property
    def _last(self):
        """Which runs' rows come last: with second moments those that are in none of them."""
        return is_left_out if self.moment_bytes > 0 else None

    def _moments(self, module):
        """The second moments of a module, in memory or in the file; None: there are none yet."""
        found = self.recorder.layers[module].mean_moments()
        return self._stored_moments.get(module) if found is None else found

    def _leave_moments(self):
        """Frees the moments of passes that are over: they are in the file."""
        if self.moment_bytes == 0:
            return
        for index, names in enumerate(self.passes.passes):
            if self.passes.are_done(index, self.done_runs):
                for name in filter(self._is_whole, names):
                    self.recorder.layers[name].moments = None
        stored = stored_moments(self.path)
        for module, layers in self.layers.items():
            place = stored.get(f"{layers[0].name}.hessian")
            if place is not None and self.recorder.layers[module].moments is None:
                self._stored_moments[module] = place

    def _is_whole(self, module):
        """Whether the file's layers take all columns of a module, so that its moments are theirs."""
        return all(layer.columns is None for layer in self.layers[module])

    def _tensors(self):
        tensors, origins = {}, {}
        for module, record in self.recorder.layers.items():
            rows, counts = record.ordered(self._last), record.origin_counts(self._last)[1]
            moments = self._moments(module)
            seen = record.mean_count > 0
            mean = torch.where(seen, record.mean_sum / record.mean_count.clamp(min=1), 0).float()
            for layer in self.layers[module]:
                last = None if layer.columns is None else layer.first_column + layer.columns
                part = slice(layer.first_column, last)
                if rows.shape[0] > 0:
                    tensors[f"{layer.name}.activations"] = rows[:, part]
                    origins[layer.name] = counts
                if bool(seen.any()):
                    tensors[f"{layer.name}.channel_max"] = record.channel_max[part]
                    tensors[f"{layer.name}.channel_mean"] = mean[part]
                if moments is not None:
                    is_stored = isinstance(moments, FileTensor)
                    tensors[f"{layer.name}.hessian"] = moments if is_stored else moments[part, part]
        return tensors, origins

    def _metadata(self, origins):
        capture = {
            "format": FORMAT,
            "node": VERSION,
            "model": self.model,
            "runs": self.done_runs,
            "rows": self.rows,
            "sigmas": sorted(self.sigmas, reverse=True),
            "dropped_rows": self.recorder.dropped_rows,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "state": {
                name: [record.reservoir.state(), record.mean_count.max().item(), record.origin_counts(self._last)[1]]
                for name, record in self.recorder.layers.items()
                if record.reservoir.seen > 0
            },
            "origins": {
                name: record.origin_counts(self._last)[0]
                for name, record in self.recorder.layers.items()
                if record.reservoir.seen > 0
            },
        }
        counts = {
            module: record.moment_count
            for module, record in self.recorder.layers.items()
            if record.moment_count > 0
        }
        if self.moment_bytes > 0:
            capture["moments"] = {"bytes": self.moment_bytes, "counts": counts, "runs": self.runs}
        of_layers = {layer.name: count for module, count in counts.items() for layer in self.layers[module]}
        return {
            **({MOMENTS_KEY: json.dumps(of_layers, separators=(",", ":"))} if of_layers else {}),
            "format": "pt",
            CAPTURE_KEY: json.dumps(capture, separators=(",", ":")),
            ORIGINS_KEY: json.dumps(origins, separators=(",", ":")),
        }

    def _restore(self):
        """Goes on from the file of earlier runs; refuses one that is of another model."""
        try:
            tensors, metadata = read_calibration(self.path)
        except (OSError, ValueError) as error:
            raise CaptureRefused(f"{error}: choose another name, or `start over`") from error
        capture = json.loads(metadata[CAPTURE_KEY])
        if capture["model"] != self.model:
            raise CaptureRefused(
                f'{self.path} holds data of the model "{capture["model"].get("file")}", this is '
                f'"{self.model.get("file")}": choose another name, or `start over`'
            )
        if capture["rows"] != self.rows:
            raise CaptureRefused(
                f'{self.path} keeps {capture["rows"]} rows per layer, {self.rows} are asked for: '
                "ask for as many, choose another name, or `start over`"
            )
        self._check_moments(capture.get("moments"))
        for module, (state, count, counts) in capture["state"].items():
            if module not in self.layers:
                raise CaptureRefused(f'{self.path} has a layer "{module}" that the model lacks: choose another name')
            self._restore_layer(module, tensors, state, count, counts, capture["origins"][module])
        self.done_runs = capture["runs"]
        if self.moment_bytes > 0:
            self._restore_moments(tensors, capture["moments"]["counts"])
        self.sigmas = set(capture["sigmas"])
        self.recorder.dropped_rows = capture["dropped_rows"]
        self.bytes_written = os.path.getsize(self.path)

    def _check_moments(self, stored):
        """Passes go on as they began."""
        wanted = None if self.moment_bytes == 0 else [self.moment_bytes, self.runs]
        if (None if stored is None else [stored["bytes"], stored["runs"]]) != wanted:
            raise CaptureRefused(
                f"{self.path} was begun with other second moments (moments, moments_gb, runs): choose the same, "
                "another name, or `start over`"
            )

    def _restore_moments(self, tensors, counts):
        """Goes on with the pass at hand; finished ones stay in the file."""
        current = next((self.passes.names(run) for run in range(self.done_runs, self.done_runs + 2)
                        if not is_left_out(run)), [])
        for module, count in counts.items():
            record = self.recorder.layers[module]
            record.moment_count = count
            stored = tensors.get(f"{self.layers[module][0].name}.hessian")
            if stored is None:
                raise CaptureRefused(f"{self.path} lacks the second moments of {module}: choose another name")
            if module in current or not self._is_whole(module):
                record.moments = self._joined_moments(module, tensors) * count
            else:
                self._stored_moments[module] = stored

    def _joined_moments(self, module, tensors):
        """The moments of a module, as far as the layers of the file have them: those between their columns."""
        record = self.recorder.layers[module]
        moments = torch.zeros((record.columns, record.columns))
        for layer in self.layers[module]:
            last = None if layer.columns is None else layer.first_column + layer.columns
            part = slice(layer.first_column, last)
            moments[part, part] = tensors[f"{layer.name}.hessian"].load()
        return moments

    def _restore_layer(self, module, tensors, state, count, counts, origins):
        record = self.recorder.layers[module]
        record.reservoir.restore(state)
        parts = sorted(self.layers[module], key=lambda layer: layer.first_column)
        whole = parts[:1] if parts[0].columns is None else parts
        def joined(field):
            return torch.cat([tensors[f"{layer.name}.{field}"] for layer in whole], dim=-1)
        if counts:
            rows = joined("activations")
            record.rows = torch.empty((self.rows, record.columns), dtype=rows.dtype)
            record.rows[: rows.shape[0]] = rows
            record.origins[: rows.shape[0]] = torch.repeat_interleave(
                torch.tensor(origins, dtype=torch.int32), torch.tensor(counts)
            )
        record.channel_max = joined("channel_max")
        record.mean_sum = joined("channel_mean").double() * count
        record.mean_count = torch.full((record.columns,), count, dtype=torch.float64)


def _size(count):
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
