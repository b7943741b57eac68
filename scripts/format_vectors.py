"""Writes tests/vectors/formats.json: layers as comfy-kitchen stores them, and what its own eager code makes of them.

    python -m venv VENV && VENV/bin/pip install numpy torch comfy-kitchen==0.2.40
    VENV/bin/python scripts/format_vectors.py

Codes, scales and markers are those of kitchen's quantizers on a fixed random weight; `values` is what its eager
dequantizers return in F32. Only a recipe: no test runs it.
"""

import base64
import json
import os

import torch

os.environ["COMFY_KITCHEN_BACKEND"] = "eager"
import comfy_kitchen as ck  # noqa: E402
from comfy_kitchen.backends.eager import convrot_w4a4, quantization, w4a8_int8  # noqa: E402

torch.manual_seed(1)
DTYPES = {torch.int8: "I8", torch.uint8: "U8", torch.float32: "F32", torch.float8_e4m3fn: "F8_E4M3",
          torch.float8_e8m0fnu: "U8"}


def tensor(t):
    t = t.contiguous()
    dtype = DTYPES[t.dtype]
    raw = t.view(torch.uint8) if t.dim() else t.reshape(1).view(torch.uint8)
    data = base64.b64encode(raw.numpy().tobytes()).decode()
    return {"dtype": dtype, "shape": list(t.shape), "data": data}


def case(name, marker, parts, values):
    return {"name": name, "marker": marker, "tensors": {k: tensor(v) for k, v in parts.items()},
            "values": tensor(values.to(torch.float32))}


cases = []
for bits, group in ((4, 16), (4, 64), (6, 16)):
    w = torch.randn(5, 256) * 0.02
    q, s_rel, s_channel, _, codebook = w4a8_int8.quantize_w4a8_int8_weight(
        w, group_size=group, convrot_groupsize=256, bits=bits)
    values = w4a8_int8.dequantize_w4a8_int8_weight(
        q, s_rel, s_channel, codebook, None, group, 256, output_dtype=torch.float32)
    parts = {"weight": q, "weight_s_rel": s_rel, "weight_s_channel": s_channel}
    if codebook is not None:
        parts["weight_codebook"] = codebook
    cases.append(case(f"asym_w4a8_int8, {bits} bits, groups of {group}",
                      {"format": "asym_w4a8_int8", "group_size": group, "convrot_groupsize": 256}, parts, values))
w = torch.randn(4, 256) * 0.02
q, scale = convrot_w4a4.quantize_convrot_w4a4_weight(w, convrot_groupsize=64)
cases.append(case("convrot_w4a4, groups of 64", {"format": "convrot_w4a4", "convrot_groupsize": 64},
                  {"weight": q, "weight_scale": scale},
                  convrot_w4a4.dequantize_convrot_w4a4_weight(q, scale, convrot_groupsize=64)))
w = torch.randn(144, 64) * 0.02
scale_2 = (w.abs().max() / 2688).to(torch.float32)
q, blocks = quantization.quantize_nvfp4(w, scale_2)
cases.append(case("nvfp4", {"format": "nvfp4"}, {"weight": q, "weight_scale": blocks, "weight_scale_2": scale_2},
                  quantization.dequantize_nvfp4(q, scale_2, blocks, torch.float32)))
w = torch.randn(160, 96) * 0.02
q, blocks = quantization.quantize_mxfp8(w)
cases.append(case("mxfp8", {"format": "mxfp8"}, {"weight": q, "weight_scale": blocks.view(torch.uint8)},
                  quantization.dequantize_mxfp8(q, blocks, torch.float32)))
out = os.path.join(os.path.dirname(__file__), "..", "tests", "vectors", "formats.json")
with open(out, "w") as f:
    json.dump({"kitchen": "0.2.40", "cases": cases}, f, indent=1)
    f.write("\n")
