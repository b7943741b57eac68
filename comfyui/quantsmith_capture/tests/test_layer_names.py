import json
import struct

import pytest

from quantsmith_capture.layer_names import StoredLayer, match_layers, weight_shapes


def header_file(path, shapes):
    entries, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    return path


def test_weight_shapes_reads_matrices_of_files_and_of_shards(tmp_path):
    one = {"a.weight": (4, 8), "a.bias": (4,), "conv.weight": (4,)}
    header_file(tmp_path / "x-1.safetensors", one)
    header_file(tmp_path / "x-2.safetensors", {"b.weight": (2, 2)})
    index = tmp_path / "x.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": "x-1.safetensors", "b.weight": "x-2.safetensors"}}))
    assert weight_shapes(tmp_path / "x-1.safetensors") == {"a.weight": (4, 8)}
    assert weight_shapes(index) == {"a.weight": (4, 8), "b.weight": (2, 2)}
    assert weight_shapes(tmp_path / "x.gguf") == {}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "net."])
def test_match_layers_finds_names_below_a_prefix(prefix):
    modules = {"blocks.0.q": (4, 8), "blocks.1.q": (4, 8)}
    shapes = {f"{prefix}blocks.{i}.q.weight": (4, 8) for i in (0, 1)} | {"other.0.q.weight": (4, 8)}
    found, missing = match_layers(modules, shapes)
    assert missing == []
    assert found == {f"blocks.{i}.q": [StoredLayer(f"{prefix}blocks.{i}.q")] for i in (0, 1)}


def test_match_layers_strips_the_names_of_wrappers_of_text_encoders():
    modules = {"t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q": (4, 8)}
    shapes = {"encoder.block.0.layer.0.SelfAttention.q.weight": (4, 8), "decoder.q.weight": (4, 8)}
    found, _ = match_layers(modules, shapes)
    assert found == {next(iter(modules)): [StoredLayer("encoder.block.0.layer.0.SelfAttention.q")]}


def test_match_layers_gives_rows_of_a_fused_layer_to_all_its_parts():
    renamed = {
        "t.0.attn.to_q.weight": ("double.0.qkv.weight", (0, 0, 4)),
        "t.0.attn.to_k.weight": ("double.0.qkv.weight", (0, 4, 4)),
        "t.0.out.weight": ("single.0.linear2.weight", (1, 0, 8)),
        "t.0.mlp.weight": ("single.0.linear2.weight", (1, 8, 24)),
        "t.0.norm.weight": "double.0.norm.weight",
    }
    shapes = {"t.0.attn.to_q.weight": (4, 8), "t.0.attn.to_k.weight": (4, 8), "t.0.out.weight": (8, 8),
              "t.0.mlp.weight": (8, 24)}
    found, missing = match_layers({"double.0.qkv": (8, 8), "single.0.linear2": (8, 32)}, shapes, renamed)
    assert missing == []
    assert found["double.0.qkv"] == [StoredLayer("t.0.attn.to_q"), StoredLayer("t.0.attn.to_k")]
    assert found["single.0.linear2"] == [StoredLayer("t.0.out", 0, 8), StoredLayer("t.0.mlp", 8, 24)]


def test_match_layers_reports_what_the_file_does_not_have():
    found, missing = match_layers({"a.b.q": (4, 8), "a.b.k": (4, 8)}, {"a.b.q.weight": (4, 8), "a.b.k.weight": (4, 9)})
    assert list(found) == ["a.b.q"] and missing == ["a.b.k"]


def test_match_layers_refuses_two_modules_of_one_name():
    with pytest.raises(ValueError, match="both look like"):
        match_layers({"l.blocks.q": (4, 8), "g.blocks.q": (4, 8)}, {"blocks.q.weight": (4, 8)})


def test_match_layers_takes_the_modules_names_where_no_file_is_known():
    assert match_layers({"a.q": (4, 8)}, {}) == ({"a.q": [StoredLayer("a.q")]}, [])
