"""Overhead of the hooks on one transformer block: `python tests/measure_overhead.py [cpu|cuda] [width] [tokens]`.

Prints the time of a forward with and without hooks, in turn, after the reservoir is full.
"""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import conftest  # noqa: E402, F401  makes the package importable without ComfyUI
import torch  # noqa: E402
from quantsmith_capture.recorder import Recorder  # noqa: E402


def main():
    device, width, tokens = (sys.argv[1:] + ["cpu", "3072", "4096"][len(sys.argv) - 1 :])[:3]
    width, tokens = int(width), int(tokens)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    sizes = [(width, width)] * 4 + [(width, 4 * width), (4 * width, width)]
    layers = [torch.nn.Linear(k, n, device=device, dtype=dtype) for k, n in sizes]
    x = torch.randn(1, tokens, width, device=device, dtype=dtype)

    def step():
        y = x
        for layer in layers:
            y = layer(y)
        if device != "cpu":
            torch.cuda.synchronize()

    def timed():
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    recorder = Recorder({str(i): layer for i, layer in enumerate(layers)}, 1024)
    with torch.no_grad():
        step()
        plain, hooked = [], []
        for _ in range(8):
            plain.append(timed())
            recorder.start(0)
            hooked.append(timed())
            recorder.stop()
    plain, hooked = sorted(plain[3:])[2], sorted(hooked[3:])[2]
    print(f"{device} width {width} tokens {tokens}: {plain:.3f} s, with hooks {hooked:.3f} s: +{100 * (hooked / plain - 1):.1f} %")


main()
