"""GPTQ of one layer in f32 with torch, blocked and with act-order, as the public implementations do it.

    python3 gptq_torch.py WEIGHT.f32 HESSIAN.f32 ROWS COLS THREADS

Prints the seconds that it took, without loading torch and the files, and the relative output error
tr(E H E^T) / tr(W H W^T), as JSON. Used by scripts/bench_gptq.ts; the project itself needs no Python.
"""

import json
import sys
import time

import numpy
import torch

weight_path, hessian_path, rows, cols, threads = sys.argv[1:]
rows, cols = int(rows), int(cols)
torch.set_num_threads(int(threads))
W0 = torch.from_numpy(numpy.fromfile(weight_path, numpy.float32).reshape(rows, cols))
H0 = torch.from_numpy(numpy.fromfile(hessian_path, numpy.float32).reshape(cols, cols))
torch.linalg.cholesky(torch.eye(256))  # what is loaded at the first use


def gptq(weight, hessian, damping=0.1, block=128):
    scale = weight.abs().amax(1).clamp_min(1e-30) / 127
    order = torch.argsort(hessian.diagonal(), descending=True)
    W, H = weight[:, order].clone(), hessian[order][:, order].clone()
    H.diagonal().add_(damping * H.diagonal().mean())
    H = torch.linalg.cholesky(H)
    H = torch.cholesky_inverse(H)
    U = torch.linalg.cholesky(H, upper=True)
    Q = torch.zeros_like(W)
    for first in range(0, W.shape[1], block):
        end = min(first + block, W.shape[1])
        W1 = W[:, first:end].clone()
        E1 = torch.zeros_like(W1)
        U1 = U[first:end, first:end]
        for j in range(end - first):
            w = W1[:, j]
            q = torch.clamp(torch.round(w / scale), -127, 127) * scale
            Q[:, first + j] = q
            e = (w - q) / U1[j, j]
            W1[:, j:] -= e.unsqueeze(1).matmul(U1[j, j:].unsqueeze(0))
            E1[:, j] = e
        W[:, end:] -= E1.matmul(U[first:end, end:])
    return Q[:, torch.argsort(order)]


best = float("inf")
for _ in range(2):
    start = time.perf_counter()
    quantized = gptq(W0, H0)
    best = min(best, time.perf_counter() - start)
E = W0 - quantized
error = ((E @ H0) * E).sum() / ((W0 @ H0) * W0).sum()
print(json.dumps({"seconds": best, "error": float(error) ** 0.5}))
