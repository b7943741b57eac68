"""Calibration files: safetensors in the layout that quantsmith reads, written complete or not at all.

Per layer `L`: `L.activations` F16 or BF16 [T, K] (inputs, rows of one prompt beside one another),
`L.channel_max` F32 [K] (largest magnitude), `L.channel_mean` F32 [K], and if they were asked for
`L.hessian` F32 [K, K] (second moments). The metadata names the source of the numbers.
"""

import json
import math
import os
import struct

from dataclasses import dataclass

import torch

FORMAT = "1"
CAPTURE_KEY = "quantsmith.capture"
ORIGINS_KEY = "quantsmith.row_origins"
MOMENTS_KEY = "quantsmith.moments"

_DTYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}


_NAMES = {name: dtype for dtype, name in _DTYPES.items()}
_COPY_BYTES = 16 << 20


@dataclass(frozen=True)
class FileTensor:
    """A tensor that stays in a file: second moments of many layers are larger than the memory."""

    path: str
    offset: int
    dtype: torch.dtype
    shape: tuple

    @property
    def nbytes(self):
        return math.prod(self.shape) * torch.empty(0, dtype=self.dtype).element_size()

    def load(self):
        """Returns it in memory."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return torch.frombuffer(bytearray(file.read(self.nbytes)), dtype=self.dtype).reshape(self.shape)

    def copy_to(self, out):
        """Writes its bytes to a file, a part at a time."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            left = self.nbytes
            while left > 0:
                part = file.read(min(left, _COPY_BYTES))
                if not part:
                    raise ValueError(f"{self.path} ends early")
                out.write(part)
                left -= len(part)


def write_calibration(path, tensors, metadata):
    """Writes `tensors` (an ordered dict of name -> CPU tensor or FileTensor) beside `path`, syncs, and renames.

    A run that is stopped at any point leaves the old file or the whole new one. Raises OSError if the
    disk is full or the folder cannot be written; the partial file is removed then.
    """
    entries, at = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        size = tensor.nbytes
        entries[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = f"{path}.partial"
    try:
        with open(partial, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for tensor in tensors.values():
                if isinstance(tensor, FileTensor):
                    tensor.copy_to(file)
                else:
                    file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.remove(partial)
        raise
    return 8 + len(text) + at


def read_calibration(path):
    """Returns tensors and metadata of a file that `write_calibration` wrote; second moments as FileTensor.

    Raises ValueError if it is none of ours, so that no other file is ever replaced.
    """
    header, metadata, data = _header(path)
    if CAPTURE_KEY not in metadata:
        raise ValueError(f"{path} was not written by this node: choose another name")
    tensors = _moments_in(path, header, data)
    with open(path, "rb") as file:
        for name, entry in header.items():
            if name in tensors:
                continue
            begin, end = entry["data_offsets"]
            file.seek(data + begin)
            values = bytearray(file.read(end - begin))
            if len(values) != end - begin:
                raise ValueError(f'{path} ends before "{name}" does')
            tensor = torch.frombuffer(values, dtype=_NAMES[entry["dtype"]]) if values else torch.empty(0)
            tensors[name] = tensor.reshape(entry["shape"])
    return tensors, metadata


def stored_moments(path):
    """Returns the second moments in a file that `write_calibration` wrote, by name."""
    header, _, data = _header(path)
    return _moments_in(path, header, data)


def _moments_in(path, header, data):
    return {
        name: FileTensor(path, data + entry["data_offsets"][0], _NAMES[entry["dtype"]], tuple(entry["shape"]))
        for name, entry in header.items()
        if name.endswith(".hessian")
    }


def _header(path):
    """Entries and metadata of a safetensors file, and the begin of its data."""
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= 100_000_000:
            raise ValueError(f"{path} is not a safetensors file")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
    return header, header.pop("__metadata__", {}), 8 + length
