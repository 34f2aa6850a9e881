"""Automatic batch size: `batch=-1` and shares of the memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.config import TrainOptions, make_options, train_settings
from yolopose.train import auto_batch
from yolopose.train.data import TrainData, load_data

MIB = 2**20


class FakeMeter:
    """A device with given free memory and memory per image."""

    def __init__(self, free: float, base: float, each: float) -> None:
        self._free, self._peaks = int(free), [int(base + each * count) for count in (2, 4)]

    def free(self) -> int:
        return self._free

    def peak(self, work: Callable[[], object]) -> int:
        work()
        return self._peaks.pop(0)


def made(tmp_path: Path, **options: Any) -> tuple[Any, TrainData, TrainOptions]:
    data, model_yaml = make_world(tmp_path / "blocks", images=40)
    chosen = make_options("train", {**FAST, "data": str(data), **options})
    assert isinstance(chosen, TrainOptions)
    return YOLO(model_yaml).model, load_data(chosen, 3), train_settings(chosen, 8)


@pytest.mark.parametrize(
    ("options", "meter", "expected"),
    [
        ({"batch": -1}, FakeMeter(1000 * MIB, 100 * MIB, 20 * MIB), 25),  # (0.6 · 1000 - 100) / 20
        ({"batch": 0.9}, FakeMeter(600 * MIB, 100 * MIB, 20 * MIB), 22),
        ({"batch": -1, "multi_scale": 0.5}, FakeMeter(1000 * MIB, 100 * MIB, 20 * MIB), 11),  # 20 · 1.5²
        ({"batch": -1}, FakeMeter(9000 * MIB, 100 * MIB, 20 * MIB), 40),  # all images
        ({"batch": -1}, FakeMeter(100 * MIB, 100 * MIB, 20 * MIB), 1),
        ({"batch": -1}, FakeMeter(9000 * MIB, 100 * MIB, 0), 40),  # below the resolution of the measurement
        ({"batch": -1}, None, 16),
    ],
)
def test_batch_fills_the_share_of_memory(options, meter, expected, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(auto_batch, "memory_meter", lambda device: meter)
    network, data, settled = made(tmp_path, **options)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert auto_batch.auto_batch_size(network, data, settled, torch.device("cpu")) == expected
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_uses_one_image_when_a_probe_does_not_fit(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        auto_batch, "_step_peaks", lambda *_: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("full"))
    )
    assert auto_batch.auto_batch_size(*made(tmp_path, batch=-1), torch.device("cpu")) == 1
    monkeypatch.setattr(auto_batch, "_step_peaks", lambda *_: (_ for _ in ()).throw(RuntimeError("another")))
    with pytest.raises(RuntimeError, match="another"):
        auto_batch.auto_batch_size(*made(tmp_path, batch=-1), torch.device("cpu"))


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="no /proc")
def test_the_host_meter_measures_short_peaks() -> None:
    # In a process of its own: threads that other tests left behind allocate memory, too.
    script = """
import mmap, time
from yolopose.train.auto_batch import _HostMeter

meter, size = _HostMeter(), 256 << 20

def work():
    with mmap.mmap(-1, size) as pages:  # unlike memory of an allocator, it is returned at once
        for _ in range(256):  # in pieces, since the bytes that are written are memory, too
            pages.write(b"\\1" * (1 << 20))
        time.sleep(0.1)  # the meter polls from another thread, which needs a turn

peak, idle = meter.peak(work), meter.peak(lambda: None)
assert size * 0.8 < peak < size * 1.5, (peak, size)
assert idle < size * 0.5, idle
assert meter.free() > size
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@pytest.mark.parametrize("batch", [0, -0.5, 2.5])
def test_refuses_impossible_batches(batch: float) -> None:
    with pytest.raises(UsageError, match="integer"):
        train_settings(TrainOptions(batch=batch), 8)


def test_a_run_logs_and_stores_its_batch(tmp_path, capsys) -> None:
    data, model_yaml = make_world(tmp_path / "blocks")
    model = YOLO(model_yaml)
    model.train(data=data, **{**FAST, "project": tmp_path / "runs", "epochs": 1, "batch": -1, "verbose": True})
    assert "MiB per image, so batch=8 (the largest allowed)." in capsys.readouterr().out
    assert "batch: 8\n" in (model.trainer.save_dir / "args.yaml").read_text()
