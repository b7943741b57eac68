"""In the real client: COMFYUI=/path/to/ComfyUI MODEL=wan.safetensors [T5=t5.safetensors] pytest tests/test_client.py

MODEL is any file that ComfyUI loads as a Wan model (16 latent channels); a tiny one will do.
"""

import importlib.util
import json
import os
import sys

import pytest

COMFYUI, MODEL = os.environ.get("COMFYUI"), os.environ.get("MODEL")
if not COMFYUI or not MODEL:
    pytest.skip("COMFYUI and MODEL name no client and no model", allow_module_level=True)

sys.path.insert(0, COMFYUI)
_argv, sys.argv = sys.argv, sys.argv[:1]
import torch  # noqa: E402
from comfy.cli_args import args  # noqa: E402

args.cpu = True
import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import folder_paths  # noqa: E402

sys.argv = _argv
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def load_nodes():
    """Loads the package as ComfyUI loads a custom node: by its folder."""
    spec = importlib.util.spec_from_file_location(
        "capture_node", os.path.join(PACKAGE, "__init__.py"), submodule_search_locations=[PACKAGE]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["capture_node"] = module
    spec.loader.exec_module(module)
    return module


NODES = load_nodes()
OPTIONS = {"enabled": True, "rows": 256, "runs": 3, "memory_gb": 1.0, "mode": "continue"}


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    return tmp_path / "calibration" / "x.calibration.safetensors"


def sample(model, seed, steps=3):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 16, 1, 16, 16, generator=generator)
    positive = [[torch.randn(1, 24, 4096, generator=generator), {}]]
    negative = [[torch.randn(1, 24, 4096, generator=generator), {}]]
    sampler = comfy.samplers.KSampler(model, steps=steps, device="cpu", sampler="euler", scheduler="simple")
    with torch.no_grad():
        return sampler.sample(noise, positive, negative, cfg=3.0, latent_image=torch.zeros_like(noise))


def test_model_node_records_images_and_changes_none(output):
    model = comfy.sd.load_diffusion_model(MODEL)
    plain = sample(model, 1)
    (captured,) = NODES.NODE_CLASS_MAPPINGS["QuantsmithCaptureModel"]().capture(model, "x", **OPTIONS)
    assert torch.equal(sample(captured, 1), plain)
    for seed in (2, 3, 4):
        sample(captured, seed)
    tensors, metadata = read(output)
    capture = json.loads(metadata["quantsmith.capture"])
    assert capture["runs"] == 3 and capture["model"]["file"] == os.path.basename(MODEL)
    assert len(capture["sigmas"]) == 3
    names = {name.rsplit(".", 1)[0] for name in tensors}
    assert names <= weights(MODEL) and any(name.endswith("blocks.0.ffn.0") for name in names)
    for name in names:
        assert torch.isfinite(tensors[f"{name}.activations"].float()).all()
        assert (tensors[f"{name}.activations"].float().abs().amax(0) <= tensors[f"{name}.channel_max"] * 1.01).all()
    # Both halves of guidance and three prompts: 6 calls a run.
    counts = json.loads(metadata["quantsmith.row_origins"])
    q = next(name for name in names if name.endswith("blocks.0.self_attn.q"))
    assert len(counts[q]) == 3 and tensors[f"{q}.activations"].shape[0] == 256
    k = q[:-1] + "k"
    assert torch.equal(tensors[f"{q}.activations"], tensors[f"{k}.activations"])
    hooks = sum(len(m._forward_pre_hooks) for m in model.model.diffusion_model.modules())
    assert hooks == 0
    assert "3 of 3" in NODES.nodes._SESSIONS[str(output)].status()


def test_model_node_that_is_off_returns_its_model(output):
    model = comfy.sd.load_diffusion_model(MODEL)
    node = NODES.NODE_CLASS_MAPPINGS["QuantsmithCaptureModel"]()
    assert node.capture(model, "x", **{**OPTIONS, "enabled": False}) == (model,)
    assert not output.exists()


def test_model_node_refuses_names_that_leave_the_folder():
    model = comfy.sd.load_diffusion_model(MODEL)
    node = NODES.NODE_CLASS_MAPPINGS["QuantsmithCaptureModel"]()
    for name in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="is no file name"):
            node.capture(model, name, **OPTIONS)


@pytest.mark.skipif("INT8" not in os.environ, reason="INT8 names no quantized file of the model")
def test_model_node_refuses_a_quantized_model():
    model = comfy.sd.load_diffusion_model(os.environ["INT8"])
    node = NODES.NODE_CLASS_MAPPINGS["QuantsmithCaptureModel"]()
    with pytest.raises(ValueError, match="is quantized"):
        node.capture(model, "x", **OPTIONS)


@pytest.mark.skipif("T5" not in os.environ, reason="T5 names no text encoder")
def test_clip_node_records_prompts(output):
    clip = comfy.sd.load_clip([os.environ["T5"]], clip_type=comfy.sd.CLIPType.WAN)
    plain = clip.encode_from_tokens(clip.tokenize("a cat"))
    (captured,) = NODES.NODE_CLASS_MAPPINGS["QuantsmithCaptureClip"]().capture(clip, "x", **OPTIONS)
    again = captured.clone()
    assert torch.equal(again.encode_from_tokens(again.tokenize("a cat")), plain)
    for text in ("a red house by the sea", "portrait of a king"):
        again.encode_from_tokens(again.tokenize(text))
    tensors, metadata = read(output)
    assert json.loads(metadata["quantsmith.capture"])["runs"] == 3
    assert {name.rsplit(".", 1)[0] for name in tensors} <= weights(os.environ["T5"])
    # The text encoder that the node took is as it was.
    clip.encode_from_tokens(clip.tokenize("a dog"))
    assert "encode_token_weights" not in clip.cond_stage_model.__dict__


def weights(path):
    return {name[: -len(".weight")] for name in NODES.nodes.weight_shapes(path)}


def read(path):
    return sys.modules["capture_node.calibration_file"].read_calibration(path)
