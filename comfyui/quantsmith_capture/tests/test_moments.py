import json

import pytest

torch = pytest.importorskip("torch")

from quantsmith_capture import session as sessions
from quantsmith_capture.calibration_file import (
    MOMENTS_KEY,
    ORIGINS_KEY,
    FileTensor,
    read_calibration,
    stored_moments,
)
from quantsmith_capture.layer_names import StoredLayer
from quantsmith_capture.moment_passes import MomentPasses, is_left_out
from quantsmith_capture.session import CaptureRefused, Session, linear_modules

MODEL = {"file": "model.safetensors", "bytes": 1}
WIDTH = 24
ONE = 4 * WIDTH * WIDTH
RUNS = 9


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        return self.a(x), self.b(2 * x), self.c(3 * x)


def new_session(folder, block, *, moment_bytes=ONE, runs=RUNS, layers=None, **options):
    modules = linear_modules(block)
    layers = layers or {name: [StoredLayer(f"blocks.0.{name}")] for name in modules}
    settings = {"model": MODEL, "rows": 64, "memory_bytes": 1e9, **options}
    path = str(folder / "x.calibration.safetensors")
    return Session(path, modules, layers, runs=runs, moment_bytes=moment_bytes, **settings)


def inputs(seed, rows=40):
    return torch.randn(1, rows, WIDTH, generator=torch.Generator().manual_seed(seed)) + seed


def run(session, block, seed):
    session.begin()
    with torch.no_grad():
        block(inputs(seed))
    session.end()
    session.save()


def expected(seeds, factor):
    x = factor * torch.cat([inputs(seed)[0] for seed in seeds])
    return x.t() @ x / x.shape[0]


def test_passes_fit_the_limit_and_leave_every_fourth_run_out():
    columns = {f"l{i}": 16 if i < 4 else 64 for i in range(6)}
    passes = MomentPasses(columns, 4 * 64 * 64, 16)
    assert [len(names) for names in passes.passes] == [4, 1, 1] and passes.too_large == []
    for names in passes.passes:
        assert sum(4 * columns[name] ** 2 for name in names) <= 4 * 64 * 64
    indexes = [passes.index(run) for run in range(16)]
    assert indexes == [None, 0, 0, 0, None, 0, 1, 1, None, 1, 1, 2, None, 2, 2, 2]
    assert [r for r in range(16) if is_left_out(r)] == [0, 4, 8, 12]
    assert MomentPasses(columns, 4 * 63 * 63, 16).too_large == ["l4", "l5"]
    assert MomentPasses(columns, 0, 16).passes == [] and MomentPasses(columns, 0, 16).names(1) == []
    for runs in range(passes.least_runs, 40):
        least = MomentPasses(columns, 4 * 64 * 64, runs)
        assert {least.index(run) for run in range(runs)} >= {0, 1, 2}


def test_moments_are_those_of_the_runs_of_a_pass_and_no_more_memory_is_taken(tmp_path):
    block = Block()
    session = new_session(tmp_path, block)
    held = []
    for seed in range(RUNS):
        run(session, block, seed)
        held.append(sum(r.moments is not None for r in session.recorder.layers.values()))
        assert all(r._device_moments is None for r in session.recorder.layers.values())
    assert max(held) == 1
    tensors, metadata = read_calibration(session.path)
    runs_of = {"a": [1, 2], "b": [3, 5], "c": [6, 7]}
    for (name, seeds), factor in zip(runs_of.items(), (1, 2, 3)):
        found = tensors[f"blocks.0.{name}.hessian"]
        assert isinstance(found, FileTensor)
        found = found.load()
        assert torch.allclose(found, expected(seeds, factor), rtol=1e-4)
        assert torch.equal(found, found.t())
    assert json.loads(metadata[MOMENTS_KEY]) == {f"blocks.0.{name}": 80 for name in "abc"}
    # Rows of the runs that are in no moments come last.
    counts = json.loads(metadata[ORIGINS_KEY])["blocks.0.a"]
    means = tensors["blocks.0.a.activations"].float().mean(1)
    origins = json.loads(metadata["quantsmith.capture"])["origins"]["a"]
    assert origins == sorted(origins, key=lambda r: (is_left_out(r), r)) and is_left_out(origins[-1])
    found = torch.split(means, counts)
    assert all(abs(part.mean() - origin) < 0.5 for part, origin in zip(found, origins))


def test_a_new_session_goes_on_with_the_passes(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    block = Block()
    whole = new_session(tmp_path / "a", block)
    for seed in range(RUNS):
        run(whole, block, seed)
        run(new_session(tmp_path / "b", block), block, seed)
    a, b = (stored_moments(str(tmp_path / d / "x.calibration.safetensors")) for d in "ab")
    assert len(a) == 3 and a.keys() == b.keys()
    assert all(torch.allclose(a[name].load(), b[name].load(), rtol=1e-5) for name in a)


def test_rows_that_are_not_finite_are_in_no_moments(tmp_path):
    block, bad = Block(), inputs(1)
    bad[0, 3, 2] = float("nan")
    session = new_session(tmp_path, block, moment_bytes=3 * ONE, runs=0)
    run(session, block, 0)
    session.begin()
    with torch.no_grad():
        block(bad)
    session.end()
    session.save()
    tensors, metadata = read_calibration(session.path)
    assert json.loads(metadata[MOMENTS_KEY])["blocks.0.a"] == 39
    assert torch.isfinite(tensors["blocks.0.a.hessian"].load()).all()


def test_layers_that_are_parts_of_a_module_have_their_part_of_the_moments(tmp_path):
    block = Block()
    layers = {"a": [StoredLayer("x", 0, 8), StoredLayer("y", 8, 16)]}
    for seed in range(3):
        session = new_session(tmp_path, block, moment_bytes=ONE, runs=0, layers=layers)
        run(session, block, seed)
    tensors, _ = read_calibration(session.path)
    whole = expected([1, 2], 1)
    assert torch.allclose(tensors["x.hessian"].load(), whole[:8, :8], rtol=1e-4)
    assert torch.allclose(tensors["y.hessian"].load(), whole[8:, 8:], rtol=1e-4)


def test_what_does_not_fit_is_refused_or_said(tmp_path):
    block = Block()
    with pytest.raises(CaptureRefused, match="3 passes .* ask for 4 runs or more"):
        new_session(tmp_path, block, runs=3)
    session = new_session(tmp_path, block, moment_bytes=ONE - 1)
    run(session, block, 0)
    assert "3 layers left out: the memory limit" in session.status()
    with pytest.raises(CaptureRefused, match="begun with other second moments"):
        new_session(tmp_path, block)
    with pytest.raises(CaptureRefused, match="begun with other second moments"):
        new_session(tmp_path, block, moment_bytes=0)


def test_a_full_disk_leaves_the_old_file_and_its_moments(tmp_path, monkeypatch):
    block = Block()
    session = new_session(tmp_path, block)
    for seed in range(4):
        run(session, block, seed)
    before = (tmp_path / "x.calibration.safetensors").read_bytes()

    def full(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "write_calibration", full)
        run(session, block, 4)
    assert "No space left" in session.status()
    assert (tmp_path / "x.calibration.safetensors").read_bytes() == before
    for seed in range(5, RUNS):
        run(session, block, seed)
    moments = stored_moments(session.path)
    assert torch.allclose(moments["blocks.0.a.hessian"].load(), expected([1, 2], 1), rtol=1e-4)
    assert torch.allclose(moments["blocks.0.b.hessian"].load(), expected([3, 5], 2), rtol=1e-4)
