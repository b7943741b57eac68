"""Calibration files: safetensors in the layout that quantsmith reads, written complete or not at all.

Per layer `L`: `L.activations` F16 or BF16 [T, K] (inputs, rows of one prompt beside one another),
`L.channel_max` F32 [K] (largest magnitude), `L.channel_mean` F32 [K]. The metadata holds where the
numbers are from.
"""

import json
import os
import struct

import torch

FORMAT = "1"
CAPTURE_KEY = "quantsmith.capture"
ORIGINS_KEY = "quantsmith.row_origins"

_DTYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}


def write_calibration(path, tensors, metadata):
    """Writes `tensors` (an ordered dict of name -> CPU tensor) beside `path`, syncs, and renames.

    A run that is stopped at any point leaves the old file or the whole new one. Raises OSError where the
    disk is full or the folder cannot be written; the partial file is removed then.
    """
    entries, at = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = f"{path}.partial"
    try:
        with open(partial, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for tensor in tensors.values():
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
    """Returns tensors and metadata of a file that `write_calibration` wrote.

    Raises ValueError where it is none of ours, so that no other file is ever replaced.
    """
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= 100_000_000:
            raise ValueError(f"{path} is not a safetensors file")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
        metadata = header.pop("__metadata__", {})
        if CAPTURE_KEY not in metadata:
            raise ValueError(f"{path} was not written by this node: choose another name")
        names = {name: dtype for dtype, name in _DTYPES.items()}
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(8 + length + begin)
            data = bytearray(file.read(end - begin))
            if len(data) != end - begin:
                raise ValueError(f'{path} ends before "{name}" does')
            tensor = torch.frombuffer(data, dtype=names[entry["dtype"]]) if data else torch.empty(0)
            tensors[name] = tensor.reshape(entry["shape"])
    return tensors, metadata
