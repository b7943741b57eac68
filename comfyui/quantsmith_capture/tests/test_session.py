import errno
import json
import os

import pytest

torch = pytest.importorskip("torch")

from quantsmith_capture import calibration_file, session as sessions
from quantsmith_capture.calibration_file import CAPTURE_KEY, ORIGINS_KEY, read_calibration
from quantsmith_capture.layer_names import StoredLayer
from quantsmith_capture.session import CaptureRefused, Session, linear_modules

MODEL = {"file": "model.safetensors", "bytes": 1}


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.out = (torch.nn.Linear(24, n) for n in (24, 24, 8))

    def forward(self, x):
        return self.out(torch.nn.functional.gelu(self.q(x) + self.k(x)))


def new_session(folder, block, **options):
    modules = linear_modules(block)
    layers = {name: [StoredLayer(f"blocks.0.{name}")] for name in modules}
    settings = {"model": MODEL, "rows": 64, "runs": 0, "memory_bytes": 1e9, **options}
    return Session(str(folder / "x.calibration.safetensors"), modules, layers, **settings)


def run(session, block, x):
    session.begin()
    try:
        with torch.no_grad():
            return block(x)
    finally:
        session.end()
        session.save()


def inputs(seed, rows=200, scale=1.0):
    return torch.randn(2, rows // 2, 24, generator=torch.Generator().manual_seed(seed)) * scale


def test_a_run_writes_rows_that_passed_and_statistics_of_all(tmp_path):
    torch.manual_seed(1)
    block, x = Block(), inputs(3)
    session = new_session(tmp_path, block)
    with torch.no_grad():
        expected = block(x)
    assert torch.equal(run(session, block, x), expected)
    tensors, metadata = read_calibration(session.path)
    assert len(tensors) == 9
    rows = tensors["blocks.0.q.activations"]
    passed = {tuple(r) for r in x.reshape(-1, 24).bfloat16().float().tolist()}
    assert rows.shape == (64, 24) and all(tuple(r) in passed for r in rows.float().tolist())
    assert len({tuple(r) for r in rows.tolist()}) == 64
    assert torch.equal(tensors["blocks.0.q.activations"], tensors["blocks.0.k.activations"])
    flat = x.reshape(-1, 24)
    assert torch.equal(tensors["blocks.0.q.channel_max"], flat.abs().amax(0))
    assert torch.allclose(tensors["blocks.0.q.channel_mean"], flat.mean(0), atol=1e-6)
    capture = json.loads(metadata[CAPTURE_KEY])
    assert capture["model"] == MODEL and capture["runs"] == 1 and capture["node"] == sessions.VERSION


def test_hooks_are_gone_after_a_run_and_after_one_that_failed(tmp_path):
    block = Block()
    session = new_session(tmp_path, block)
    run(session, block, inputs(1))
    with pytest.raises(RuntimeError):
        run(session, block, torch.zeros(3, 23))
    assert all(not module._forward_pre_hooks for module in block.modules())


def test_runs_add_up_and_rows_are_ordered_by_run(tmp_path):
    block = Block()
    session = new_session(tmp_path, block)
    for seed in range(4):
        run(session, block, inputs(seed) + 100 * seed)
    tensors, metadata = read_calibration(session.path)
    counts = json.loads(metadata[ORIGINS_KEY])["blocks.0.q"]
    assert len(counts) == 4 and sum(counts) == 64 and min(counts) > 4
    origin = torch.round(tensors["blocks.0.q.activations"].float().mean(1) / 100).int().tolist()
    assert origin == [k for k, count in enumerate(counts) for _ in range(count)]


def test_a_new_session_goes_on_with_the_file(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    torch.manual_seed(2)
    block = Block()
    whole = new_session(tmp_path / "a", block)
    for seed in range(3):
        run(whole, block, inputs(seed))
        run(new_session(tmp_path / "b", block), block, inputs(seed))
    (a, meta_a), (b, meta_b) = (read_calibration(tmp_path / d / "x.calibration.safetensors") for d in "ab")
    for name in a:
        if name.endswith("channel_mean"):
            assert torch.allclose(a[name], b[name], atol=1e-6)
        elif name.endswith("channel_max"):
            assert torch.equal(a[name], b[name])
    # Slots are in another order after a restart, so that other rows make room: as many, from the same stream.
    state_a, state_b = (json.loads(m[CAPTURE_KEY])["state"] for m in (meta_a, meta_b))
    assert [state_a[k][0] for k in state_a] == [state_b[k][0] for k in state_b]
    passed = {tuple(r) for seed in range(3) for r in inputs(seed).reshape(-1, 24).bfloat16().float().tolist()}
    rows = [tuple(r) for r in b["blocks.0.q.activations"].float().tolist()]
    assert len(set(rows)) == 64 and set(rows) <= passed
    counts = json.loads(meta_b[ORIGINS_KEY])["blocks.0.q"]
    assert len(counts) == 3 and sum(counts) == 64 and min(counts) > 5


def test_rows_that_are_not_finite_are_dropped_and_counted(tmp_path):
    block, x = Block(), inputs(5, rows=40)
    x[0, 3, 2] = float("nan")
    x[1, 4, :] = float("inf")
    session = new_session(tmp_path, block)
    run(session, block, x)
    tensors, metadata = read_calibration(session.path)
    assert tensors["blocks.0.q.activations"].shape[0] == 38
    assert all(torch.isfinite(t.float()).all() for t in tensors.values())
    assert json.loads(metadata[CAPTURE_KEY])["dropped_rows"] >= 4
    assert "dropped" in session.status()


def test_a_capture_ends_after_its_runs(tmp_path):
    block = Block()
    session = new_session(tmp_path, block, runs=2)
    run(session, block, inputs(1))
    assert not session.is_complete
    run(session, block, inputs(2))
    assert session.is_complete and session.status().startswith("complete. run 2 of 2")


def test_the_memory_limit_lowers_the_rows_and_says_so(tmp_path):
    session_block = Block()
    session = new_session(tmp_path, session_block, memory_bytes=2 * 72 * 20)
    assert session.rows == 20 and "ready: 20 rows per layer" in session.status()
    run(session, session_block, inputs(1))
    assert "20 rows per layer instead of 64" in session.status()


def test_data_of_another_model_or_of_others_is_never_replaced(tmp_path):
    block = Block()
    run(new_session(tmp_path, block), block, inputs(1))
    before = (tmp_path / "x.calibration.safetensors").read_bytes()
    with pytest.raises(CaptureRefused, match="holds data of the model"):
        new_session(tmp_path, block, model={"file": "other.safetensors", "bytes": 2})
    with pytest.raises(CaptureRefused, match="64 rows per layer, 32 are asked"):
        new_session(tmp_path, block, rows=32)
    (tmp_path / "x.calibration.safetensors").write_bytes(b"not ours")
    with pytest.raises(CaptureRefused, match="not a safetensors file"):
        new_session(tmp_path, block)
    assert (tmp_path / "x.calibration.safetensors").read_bytes() == b"not ours" and before
    new_session(tmp_path, block, start_over=True)


def test_a_full_disk_leaves_the_old_file_and_the_run_goes_on(tmp_path, monkeypatch):
    block = Block()
    session = new_session(tmp_path, block)
    run(session, block, inputs(1))
    before = open(session.path, "rb").read()

    def full(_fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(calibration_file.os, "fsync", full)
    assert run(session, block, inputs(2)) is not None
    assert open(session.path, "rb").read() == before
    assert os.listdir(tmp_path) == ["x.calibration.safetensors"]
    assert "No space left" in session.status() and "free space" in session.status()
    monkeypatch.undo()
    run(session, block, inputs(3))
    assert json.loads(read_calibration(session.path)[1][CAPTURE_KEY])["runs"] == 3


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.uint8])
def test_a_quantized_model_is_refused(dtype):
    block = Block()
    block.k.weight = torch.nn.Parameter(block.k.weight.detach().to(dtype), requires_grad=False)
    with pytest.raises(CaptureRefused, match='"k" is quantized'):
        linear_modules(block)


def test_a_weight_of_a_class_of_its_own_is_refused():
    class Packed(torch.Tensor):
        pass

    block = Block()
    block.out.weight = torch.nn.Parameter(block.out.weight.detach().as_subclass(Packed), requires_grad=False)
    with pytest.raises(CaptureRefused, match='"out" is quantized'):
        linear_modules(block)
    with pytest.raises(CaptureRefused, match="no linear layers"):
        linear_modules(torch.nn.Conv2d(3, 3, 1))
