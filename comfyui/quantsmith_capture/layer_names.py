"""Names of a checkpoint's layers for the modules that ComfyUI makes of them.

The loader strips prefixes, renames the layers of diffusers files, and fuses some of them (`to_q`, `to_k`
and `to_v` become one `qkv`). Calibration data bears the names that stand in the file.
"""

import json
import os
import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class StoredLayer:
    """A layer of the file that a module, or a part of its input columns, stands for."""

    name: str
    """Name of its weight without `.weight`."""
    first_column: int = 0
    columns: int | None = None
    """Input columns of the module that belong to it; None: all."""


def weight_shapes(path):
    """Returns the shapes of all 2-D `*.weight` of a safetensors file or of an index's shards; {} for other files."""
    path = os.fspath(path)
    if path.endswith(".index.json"):
        with open(path, encoding="utf-8") as file:
            shards = sorted(set(json.load(file)["weight_map"].values()))
        folder = os.path.dirname(path)
        return {k: v for shard in shards for k, v in weight_shapes(os.path.join(folder, shard)).items()}
    if not path.endswith((".safetensors", ".sft")):
        return {}
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 100_000_000:
            raise ValueError(f"{path}: a header of {length} bytes is not one of a safetensors file")
        header = json.loads(file.read(length))
    return {
        name: tuple(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and name.endswith(".weight") and len(entry["shape"]) == 2
    }


def match_layers(modules, shapes, renamed=None):
    """Returns the layers of the file for every module, and the modules that have none.

    modules: dict of module name -> (rows N, columns K) of its weight.
    shapes: dict of weight name in the file -> (N, K), from `weight_shapes`; {} if no file is known: the
      modules' own names are used.
    renamed: dict of weight name in the file -> module weight name, or (module weight name, (dim, start,
      length), ...), as ComfyUI's `*_to_diffusers` functions return it.
    """
    if not shapes:
        return {name: [StoredLayer(name)] for name in modules}, []
    found = {}
    for stored, target in (renamed or {}).items():
        if stored not in shapes or not stored.endswith(".weight"):
            continue
        name, part = (target, None) if isinstance(target, str) else (target[0], target[1])
        name = _layer(name)
        if name not in modules:
            continue
        if part is not None and part[0] == 1:
            layer = StoredLayer(_layer(stored), part[1], part[2])
        else:
            layer = StoredLayer(_layer(stored))
        if (layer.columns or modules[name][1]) == shapes[stored][1]:
            found.setdefault(name, []).append(layer)
    by_suffix = {}
    for stored in shapes:
        parts = _layer(stored).split(".")
        for i in range(len(parts)):
            by_suffix.setdefault(".".join(parts[i:]), []).append(stored)
    missing = []
    for name, shape in modules.items():
        if name in found:
            continue
        stored = _longest_suffix(name, shape, shapes, by_suffix)
        if stored is None:
            missing.append(name)
        else:
            found[name] = [StoredLayer(_layer(stored))]
    _refuse_shared(found)
    return found, missing


def _longest_suffix(name, shape, shapes, by_suffix):
    """The one weight whose name ends as the module's does, by the longest common end and the shape."""
    parts = name.split(".")
    for i in range(len(parts)):
        suffix = ".".join(parts[i:])
        if i > 0 and len(parts) - i < 2:
            return None
        fitting = [s for s in by_suffix.get(suffix, ()) if shapes[s] == tuple(shape)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            return None
    return None


def _refuse_shared(found):
    owner = {}
    for module, layers in found.items():
        for layer in layers:
            if layer.name in owner:
                raise ValueError(
                    f'the layers "{owner[layer.name]}" and "{module}" of the loaded model both look like '
                    f'"{layer.name}" of the file: capture one model at a time'
                )
            owner[layer.name] = module


def _layer(weight):
    return weight[: -len(".weight")] if weight.endswith(".weight") else weight
