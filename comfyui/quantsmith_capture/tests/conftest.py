"""The package is tested without ComfyUI; test_client.py needs it (COMFYUI=/path/to/ComfyUI)."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def _load():
    """Makes `quantsmith_capture` importable without its __init__, which needs ComfyUI."""
    import types

    package = types.ModuleType("quantsmith_capture")
    package.__path__ = [os.path.dirname(HERE)]
    sys.modules.setdefault("quantsmith_capture", package)


_load()
