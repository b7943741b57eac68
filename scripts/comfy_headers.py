#!/usr/bin/env python3
"""Writes the headers of published models, as ComfyUI's own classes define them: names, dtypes and shapes. Models that
ComfyUI does not have are built of its parts, or named one by one, as their published code has them.

    COMFYUI=~/ComfyUI python scripts/comfy_headers.py FOLDER [NAME ...]
    deno run -A scripts/pack_headers.ts FOLDER/NAME.json

The models are built on the meta device, without weights, with the sizes of the published checkpoints: those that
`comfy/model_detection.py` finds in them, or the defaults of their classes. Parameters are written in the dtype that
the class asks for, BF16 otherwise. Written with ComfyUI 0.33.0 and transformers 5; torch for the CPU is enough.
"""

import json
import os
import re
import sys

FOLDER, NAMES, sys.argv = sys.argv[1], sys.argv[2:], sys.argv[:1]
sys.path.insert(0, os.environ.get("COMFYUI") or sys.exit("set COMFYUI to a ComfyUI folder"))

import torch  # noqa: E402
from comfy.cli_args import args  # noqa: E402

args.cpu = True
import comfy.ops  # noqa: E402

DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def of(path, name, device="meta", **config):
    """A class of ComfyUI with a configuration; on the CPU it takes no memory either, as nothing fills it."""

    def make():
        module = __import__(f"comfy.ldm.{path}", fromlist=[name])
        settings = dict(device=device, dtype=torch.bfloat16, operations=comfy.ops.disable_weight_init)
        return getattr(module, name)(**config, **settings)

    return make


def qwen3_moe():
    """Qwen3-30B-A3B: its published configuration, the names of transformers 5."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    config = Qwen3MoeConfig(
        vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=48,
        num_attention_heads=32, num_key_value_heads=4, head_dim=128, moe_intermediate_size=768,
        num_experts=128, num_experts_per_tok=8, tie_word_embeddings=False,
    )
    with torch.device("meta"):
        return Qwen3MoeForCausalLM(config).to(torch.bfloat16)


def kandinsky6():
    """Kandinsky 6.0 Lite: blocks of Kandinsky 5 for video and for audio, and attention from each to the other.
    ComfyUI does not have it: names and sizes are those of the original checkpoint, as its published readers have
    them."""
    from comfy.ldm.kandinsky5 import model as k5

    linear = comfy.ops.disable_weight_init.Linear
    settings = dict(device="meta", dtype=torch.bfloat16)
    with_ops = dict(operation_settings=dict(operations=comfy.ops.disable_weight_init, **settings))
    video, audio, time, head, text, pooled = 1792, 896, 512, 64, 3584, 768
    feed = {video: 7168, audio: 3584}

    def cross(queries, keys):
        module = torch.nn.Module()
        for name, width in dict(to_query=queries, to_key=keys, to_value=keys, out_layer=queries).items():
            setattr(module, name, linear(width, queries, **settings))
        for name in ("query_norm", "key_norm"):
            setattr(module, name, comfy.ops.disable_weight_init.RMSNorm(head, **settings))
        return module

    def fused():
        module = torch.nn.Module()
        module.videoT = k5.TransformerDecoderBlock(video, time, feed[video], head, **with_ops)
        module.audioT = k5.TransformerDecoderBlock(audio, time, feed[audio], head, **with_ops)
        module.va_cross_attention, module.av_cross_attention = cross(video, audio), cross(audio, video)
        module.va_modulation = k5.Modulation(time, 2 * video + audio, 1, **with_ops)
        module.av_modulation = k5.Modulation(time, 2 * audio + video, 1, **with_ops)
        return module

    def blocks(count, make):
        return torch.nn.ModuleList(make() for _ in range(count))

    model = torch.nn.Module()
    model.visual_embeddings = k5.VisualEmbeddings((2 * 16 + 1) * 4, video, (1, 2, 2), **with_ops)
    model.visual_token_type_embeddings = comfy.ops.disable_weight_init.Embedding(2, video, **settings)
    model.audio_embeddings = k5.TextEmbeddings(40, audio, **with_ops)
    for name, width in dict(video=video, audio=audio).items():
        setattr(model, f"{name}_time_embeddings", k5.TimeEmbeddings(width, time, **with_ops))
        setattr(model, f"{name}_text_embeddings", k5.TextEmbeddings(text, width, **with_ops))
        setattr(model, f"{name}_pooled_text_embeddings", k5.TextEmbeddings(pooled, time, **with_ops))
        setattr(model, f"{name}_text_transformer_blocks", blocks(
            2, lambda: k5.TransformerEncoderBlock(width, time, feed[width], head, **with_ops)))
    model.out_layer = k5.OutLayer(video, time, 16, (1, 2, 2), **with_ops)
    model.audio_outLayer = torch.nn.Module()
    model.audio_outLayer.modulation = k5.Modulation(time, audio, 2, **with_ops)
    model.audio_outLayer.out_layer = linear(audio, 40, **settings)
    model.visual_blocks = blocks(32, fused)
    return model


def sensenova_u1():
    """SenseNova U1.5 8B MoT, SFT: Qwen3 with two halves in every layer, one that understands and one that makes the
    image, and two vision towers. ComfyUI does not have it: names are those of the published modelling code, sizes
    those of its configuration."""
    width, feed, heads, keys, head, layers, words, vision = 4096, 12288, 32, 8, 128, 42, 151936, 1024
    shapes = {}

    def add(name, *shape, bias=False):
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    for tower in ("vision_model", "fm_modules.vision_model_mot_gen"):
        add(f"{tower}.embeddings.patch_embedding", vision, 3, 16, 16, bias=True)
        add(f"{tower}.embeddings.dense_embedding", width, vision, 2, 2, bias=True)
    add("language_model.model.embed_tokens", words, width)
    attention = dict(q=(heads * head, width), k=(keys * head, width), v=(keys * head, width), o=(width, heads * head))
    mlp = dict(gate=(feed, width), up=(feed, width), down=(width, feed))
    for layer in (f"language_model.model.layers.{i}" for i in range(layers)):
        for half in ("", "_mot_gen"):
            for part, shape in attention.items():
                add(f"{layer}.self_attn.{part}_proj{half}", *shape)
            for norm in ("q_norm", "k_norm", "q_norm_hw", "k_norm_hw"):
                add(f"{layer}.self_attn.{norm}{half}", head // 2)
            for part, shape in mlp.items():
                add(f"{layer}.mlp{half}.{part}_proj", *shape)
            add(f"{layer}.input_layernorm{half}", width)
            add(f"{layer}.post_attention_layernorm{half}", width)
    add("language_model.model.norm", width)
    add("language_model.model.norm_mot_gen", width)
    add("language_model.lm_head", words, width)
    for embedder in ("timestep_embedder", "noise_scale_embedder"):
        add(f"fm_modules.{embedder}.mlp.0", width, 256, bias=True)
        add(f"fm_modules.{embedder}.mlp.2", width, width, bias=True)
    add("fm_modules.fm_head.conv1", width // 4, width // 4, 3, 3, bias=True)
    add("fm_modules.fm_head.conv2", 192, width // 16, 3, 3, bias=True)
    return {name: torch.empty(shape, dtype=torch.bfloat16, device="meta") for name, shape in shapes.items()}


LLAMA_LAYERS = list(range(32)) + 16 * [31]

# The name of a header, and the model: sizes of the published checkpoint, by model_detection.py or the class.
MODELS = {
    "kandinsky5-lite-t2v": of("kandinsky5.model", "Kandinsky5"),
    "seedvr2-3b": of(
        "seedvr.model", "NaDiT", vid_dim=2560, heads=20, num_layers=32, norm_eps=1e-5, mlp_type="swiglu",
        vid_out_norm=True,
    ),
    "seedvr2-7b": of(
        "seedvr.model", "NaDiT", vid_dim=3072, heads=24, num_layers=36, mm_layers=36, norm_eps=1e-5,
        rope_type="rope3d", rope_dim=64, mlp_type="normal",
    ),
    "ace-step-1.5": of("ace.ace_step15", "AceStepConditionGenerationModel", device="cpu"),
    "hidream-i1": of(
        "hidream.model", "HiDreamImageTransformer2DModel", axes_dims_rope=[64, 32, 32],
        caption_channels=[4096, 4096], in_channels=16, llama_layers=LLAMA_LAYERS, out_channels=16, patch_size=2,
    ),
    "omnigen2": of(
        "omnigen.omnigen2", "OmniGen2Transformer2DModel", axes_dim_rope=[40, 40, 40],
        axes_lens=[1024, 1664, 1664], hidden_size=2520, num_attention_heads=21, num_kv_heads=7, num_layers=32,
        text_feat_dim=2048, timestep_scale=1000.0,
    ),
    "cogvideox-2b": of("cogvideo.model", "CogVideoXTransformer3DModel"),
    "cogvideox-1.5-5b": of(
        "cogvideo.model", "CogVideoXTransformer3DModel", num_attention_heads=48, num_layers=42, patch_size_t=2,
        use_rotary_positional_embeddings=True, patch_bias=False,
    ),
    "joyimage": of("joyimage.model", "JoyImageTransformer3DModel", num_layers=20),
    "mage-flow": of("mage_flow.model", "MageFlowTransformer2DModel"),
    "minimax-h3": of("minimax.model", "MiniMaxH3Model"),
    # Times as points of a curve of 1,025 points in 8 dimensions, for the time embedder and full modulations.
    "minimax-h3-pruned": of("minimax.model", "MiniMaxH3Model", adaln_curve_grid=1025, time_embed_dim=8),
    "ltx-2.5-av": of(
        "lightricks.av_model", "LTXAVModel", apply_gated_attention=True, caption_proj_before_connector=True,
        cross_attention_adaln=True, use_keyframes_abs_pos_embedding=True,
    ),
    "qwen3-30b-a3b-te": qwen3_moe,
    "kandinsky6-lite": kandinsky6,
    "sensenova-u1.5-8b": sensenova_u1,
}


EMBEDDINGS = {"embed_tokens", "embed_tokens_per_layer", "token_embedding", "word_embeddings", "tok_embeddings", "wte", "shared"}
STEERING = re.compile(
    "scale_shift|rope|rotary|rel_pos|pos_?embed|embedder|gate_logits|router|routing|logit|temperature|t_?emb|guidance"
    "|register|refiner_blocks|adapter|(^|_)time|(^|_)(final|head|proj_out|out_layer)(_|$)"
)


def by_official_rule(name, shape):
    """Whether the official INT8 files would quantize it: counted apart from the program's own rule."""
    if not name.endswith(".weight") or len(shape) != 2 or min(shape) < 256 or shape[1] % 16:
        return False
    parts = name.split(".")[:-1]
    if EMBEDDINGS.intersection(parts) or any(STEERING.search(part) for part in parts):
        return False
    # Gates of experts are bare parameters, norms and tables no linear layers.
    if parts[-1] == "gate" or "norm" in parts[-1]:
        return False
    return any(part.isdigit() for part in parts[:-1])


def one_by_one(tensors):
    """Experts as checkpoints have them: transformers joins them when it loads."""
    for name, (dtype, shape) in tensors.items():
        if not re.search(r"experts\.(gate_up|down)_proj$", name):
            yield name, [dtype, shape]
            continue
        experts, rows, cols = shape
        stem, joined = name.rsplit(".", 1)
        parts = [("gate_proj", rows // 2), ("up_proj", rows // 2)] if joined == "gate_up_proj" else [("down_proj", rows)]
        for expert in range(experts):
            for part, height in parts:
                yield f"{stem}.{expert}.{part}.weight", [dtype, [height, cols]]


def main():
    os.makedirs(FOLDER, exist_ok=True)
    for name in NAMES or MODELS:
        made = MODELS[name]()
        state = made if isinstance(made, dict) else made.state_dict()
        tensors = {key: [DTYPES[value.dtype], list(value.shape)] for key, value in state.items()}
        tensors = dict(one_by_one(tensors))
        path = os.path.join(FOLDER, f"{name}.json")
        with open(path, "w") as file:
            rule = sum(by_official_rule(key, shape) for key, (_, shape) in tensors.items())
            json.dump({"src": "generated", "rule": rule, "tensors": tensors}, file)
        print(f"{path}: {len(tensors)} tensors", flush=True)


main()
