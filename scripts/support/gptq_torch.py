"""GPTQ of one layer in f32 with torch, blocked and with act-order, as the public implementations do it.

    python3 gptq_torch.py MODEL.safetensors HESSIAN.safetensors OUT.safetensors THREADS [REPEATS]

Reads L.weight and L.hessian, writes int8 L.weight and f32 L.weight_scale: a whole command. With REPEATS it
rounds so many times instead and prints the least seconds that the method took by itself, without starting,
loading and writing, and the relative output error tr(E H E^T) / tr(W H W^T), as JSON. Used by
scripts/bench_gptq.ts; the project itself needs no Python.
"""

import json
import sys
import time

import torch
from safetensors.torch import load_file, save_file


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
    return Q[:, torch.argsort(order)], scale


def only(path, suffix):
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(suffix))
    return name, tensors[name]


model_path, hessian_path, out_path, threads, *repeats = sys.argv[1:]
torch.set_num_threads(int(threads))
name, W0 = only(model_path, ".weight")
_, H0 = only(hessian_path, ".hessian")
if not repeats:
    quantized, scale = gptq(W0, H0)
    codes = torch.round(quantized / scale.unsqueeze(1)).to(torch.int8)
    save_file({name: codes, name + "_scale": scale.unsqueeze(1)}, out_path)
    sys.exit()
torch.linalg.cholesky(torch.eye(256))  # what is loaded at the first use
W0, H0 = W0.clone(), H0.clone()  # files are mapped: read them before the clock runs
best = float("inf")
for _ in range(int(repeats[0])):
    start = time.perf_counter()
    quantized, _ = gptq(W0, H0)
    best = min(best, time.perf_counter() - start)
E = W0 - quantized
error = ((E @ H0) * E).sum() / ((W0 @ H0) * W0).sum()
print(json.dumps({"seconds": best, "error": float(error) ** 0.5}))
