"""Writes tests/vectors/encoders.json: what the linear layers of ComfyUI's text encoders take in, for small models.

    python -m venv VENV && VENV/bin/pip install -r COMFYUI/requirements.txt
    COMFYUI=COMFYUI OMP_NUM_THREADS=1 VENV/bin/python scripts/encoder_vectors.py

The models have made-up weights, small integers times a power of 2, by a hash of (name, index) that
tests/run/encoder/small_models.ts repeats; `inputs` are F32 rows of some tokens. Only a recipe: no test runs it.
"""

import base64
import json
import os
import sys

sys.path.insert(0, os.environ["COMFYUI"])
sys.argv = sys.argv[:1]
import numpy as np  # noqa: E402
import torch  # noqa: E402
from comfy.cli_args import args  # noqa: E402

args.cpu = True
import comfy.ops  # noqa: E402
from comfy.clip_model import CLIPTextModel  # noqa: E402
from comfy.text_encoders import bert, llama, t5  # noqa: E402

torch.set_grad_enabled(False)
OPS = comfy.ops.manual_cast
VOCABULARY = 64


def hashed(name, count):
    """Integers in -128..127: FNV-1a of the name, then the finaliser of MurmurHash3 over the index."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) & 0xFFFFFFFF
    h = (np.arange(count, dtype=np.uint64) * 0x9E3779B1 + seed) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = ((h ^ (h >> shift)) * factor) & 0xFFFFFFFF
    h = h ^ (h >> 16)
    return (h >> 24).astype(np.int64) - 128


def values(name, shape, adds_one):
    x = torch.from_numpy(hashed(name, int(np.prod(shape)))).double()
    if name.endswith("relative_attention_bias.weight"):
        x = x / 64
    elif len(shape) == 1 and name.endswith("weight") and not adds_one:
        x = 1 + torch.floor(x / 4) / 128
    elif "embed" in name or name.startswith("shared"):
        x = x / 128
    else:
        x = x / 512
    return x.float().reshape(shape)


def llama_model(adds_one=False, **settings):
    class Config(llama.Llama2Config):
        pass
    for key, value in settings.items():
        setattr(Config, key, value)
    config = Config(vocab_size=VOCABULARY, **{k: settings[k] for k in (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "rms_norm_eps", "rope_theta", "transformer_type") if k in settings})
    return llama.Llama2_(config, device="cpu", dtype=torch.float32, ops=OPS), "model."


def t5_model(**settings):
    config = dict(d_ff=48, d_kv=8, d_model=32, dense_act_fn="gelu_pytorch_tanh", is_gated_act=True, model_type="t5",
                  num_heads=4, num_layers=2, vocab_size=VOCABULARY)
    return t5.T5(config | settings, torch.float32, "cpu", OPS), ""


def bert_model():
    config = dict(hidden_size=48, layer_norm_eps=1e-12, vocab_size=VOCABULARY, max_position_embeddings=16,
                  type_vocab_size=2, pad_token_id=0, num_hidden_layers=2, intermediate_size=64,
                  num_attention_heads=12)
    return bert.BertModel_(config, torch.float32, "cpu", OPS), ""


def clip_model(width, act):
    config = dict(hidden_size=width, num_hidden_layers=1, intermediate_size=96, num_attention_heads=width // 64,
                  hidden_act=act, max_position_embeddings=16, eos_token_id=2, vocab_size=VOCABULARY)
    model = CLIPTextModel(config, torch.float32, "cpu", OPS)
    embedding = model.text_model.embeddings.token_embedding
    embedding.weight = torch.nn.Parameter(torch.empty(VOCABULARY, width))
    return model, ""


SMALL = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             rms_norm_eps=1e-6, rope_theta=1e6, head_dim=16)
GEMMA = SMALL | dict(rms_norm_add=True, mlp_activation="gelu_pytorch_tanh")
HEAD_NORMS = dict(q_norm="gemma3", k_norm="gemma3")
CASES = [
    ("T5", "F16", None, t5_model()),
    ("T5 without gates", "F32", None, t5_model(dense_act_fn="relu", is_gated_act=False)),
    ("UMT5", "BF16", None, t5_model(model_type="umt5")),
    ("Qwen3", "BF16", None, llama_model(**(SMALL | HEAD_NORMS))),
    ("Qwen2", "BF16", None, llama_model(**(SMALL | dict(head_dim=128, num_attention_heads=2, num_key_value_heads=1,
                                                       qkv_bias=True)))),
    ("Llama or Mistral", "BF16", dict(hidden_size=48, num_attention_heads=4, head_dim=16, rope_theta=5e5, rms_norm_eps=1e-5),
     llama_model(**(SMALL | dict(rope_theta=5e5, rms_norm_eps=1e-5)))),
    ("Gemma 2", "BF16", dict(num_attention_heads=4, head_dim=16, rope_theta=1e4, rms_norm_eps=1e-6),
     llama_model(**(GEMMA | dict(transformer_type="gemma2", rope_theta=1e4, sliding_attention=None)))),
    ("Gemma 3", "BF16", dict(text_config=dict(
        num_attention_heads=4, head_dim=16, rope_theta=1e6, rope_local_base_freq=1e4, rms_norm_eps=1e-6,
        sliding_window=4, sliding_window_pattern=2, rope_scaling=dict(factor=8.0, rope_type="linear"))),
     llama_model(**(GEMMA | HEAD_NORMS | dict(transformer_type="gemma3", rope_theta=[1e6, 1e4], rope_scale=[8.0, 1.0],
                                             sliding_attention=[4, False])))),
    ("CLIP", "F32", None, clip_model(128, "gelu")),
    ("CLIP, 768 wide", "F16", None, clip_model(768, "quick_gelu")),
    ("BERT", "F32", None, bert_model()),
]


def run(model, ids):
    kwargs = {"dtype": torch.float32}
    if isinstance(model, t5.T5):
        return model(ids, None, **kwargs)
    if isinstance(model, CLIPTextModel):  # takes as many tokens as it has positions
        ids = torch.nn.functional.pad(ids, (0, 16 - ids.shape[1]))
    return model(ids, **kwargs)


def is_read(name):
    return not name.startswith(("model.norm", "text_projection", "text_model.final_layer_norm", "encoder.final"))


def case(title, dtype, config, made):
    model, prefix = made
    adds_one = title.startswith("Gemma")
    state = model.state_dict()
    shapes = {prefix + k: list(v.shape) for k, v in state.items()}
    model.load_state_dict({k: values(prefix + k, v.shape, adds_one) for k, v in state.items()})
    # T5 distinguishes distances up to 128; CLIP and BERT have 16 positions here.
    first = 150 if "T5" in title else 9
    lengths = [first, 3, 6]
    tokens = (hashed(title, sum(lengths)) % VOCABULARY).tolist()
    rows = [0, first - 1, first + 2, first + 6]
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "text_projection" not in name:
            module.register_forward_pre_hook(
                lambda _m, x, n=prefix + name: found.setdefault(n, []).append(x[0][0, :length]))
    at = 0
    for length in lengths:
        run(model, torch.tensor([tokens[at:at + length]]))
        at += length
    inputs = {}
    for name, parts in found.items():
        x = torch.cat(parts)[rows].float().contiguous()
        inputs[name] = {"shape": list(x.shape), "data": base64.b64encode(x.numpy().tobytes()).decode()}
    return {"title": title, "dtype": dtype, "config": config, "addsOne": adds_one, "lengths": lengths,
            "tokens": tokens, "rows": rows, "shapes": {k: v for k, v in shapes.items() if is_read(k)},
            "inputs": inputs}


out = os.path.join(os.path.dirname(__file__), "..", "tests", "vectors", "encoders.json")
with open(out, "w", encoding="utf-8") as file:
    json.dump({"vocabulary": VOCABULARY, "cases": [case(*c) for c in CASES]}, file, indent=1)
    file.write("\n")
