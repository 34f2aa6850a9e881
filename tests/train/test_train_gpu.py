"""Training on a CUDA GPU, from the first image to the weights; skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_worlds import FAST, make_world

from yolopose import YOLO

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU")


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    return make_world(tmp_path / "blocks")


def train(world: tuple[Path, Path], project: Path, **options: Any) -> YOLO:
    model = YOLO(world[1])
    model.train(data=world[0], project=project, **{**FAST, "device": 0, **options})
    return model


def state_of(model: YOLO) -> dict[str, torch.Tensor]:
    return {name: value.cpu().clone() for name, value in model.trainer.model.state_dict().items()}


@pytest.mark.parametrize(
    "options",
    [
        {}, {"amp": False}, {"amp": "bf16"}, {"compile": True}, {"optimizer": "SGD"}, {"optimizer": "MuSGD"},
        {"multi_scale": 0.5}, {"batch": -1}, {"workers": 2, "cache": "ram"}, {"mosaic": 1.0, "mixup": 0.5, "bgr": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_losses_fall(options: dict[str, Any], world, tmp_path: Path) -> None:
    losses: list[float] = []
    model = YOLO(world[1])
    model.add_callback("on_train_epoch_end", lambda trainer: losses.append(float(trainer.tloss.sum())))
    model.train(data=world[0], project=tmp_path / "runs", **{**FAST, "device": 0, "epochs": 12, **options})
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]


def test_one_step_equals_that_of_the_cpu(world, tmp_path: Path) -> None:
    options = {"epochs": 1, "batch": 8, "amp": False, "optimizer": "SGD", "mosaic": 1.0, "hsv_s": 0.7, "fliplr": 0.5}
    torch.backends.cudnn.allow_tf32 = False
    try:
        states = [state_of(train(world, tmp_path / kind, device=kind, **options)) for kind in ("cpu", "0")]
    finally:
        torch.backends.cudnn.allow_tf32 = True
    for name, there in states[0].items():
        if there.is_floating_point():  # pixels are painted by another library, and may be one off
            torch.testing.assert_close(states[1][name], there, atol=5e-3, rtol=5e-2, msg=name)


def test_a_resumed_run_equals_an_uninterrupted_one(world, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Stop

    whole = train(world, tmp_path / "whole", epochs=4)
    broken = YOLO(world[1])
    broken.add_callback("on_train_epoch_start", stop)
    with pytest.raises(Stop):
        broken.train(data=world[0], project=tmp_path / "broken", **{**FAST, "device": 0, "epochs": 4})
    resumed = YOLO(broken.trainer.last)
    resumed.train(resume=True)
    for name, value in state_of(whole).items():
        assert torch.equal(value, state_of(resumed)[name]), name


def test_full_memory_splits_the_batch_with_a_warning(world, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, total = torch.cuda.mem_get_info()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 1e9) / total)
    try:
        model = train((world[0], Path("yolo11s-pose.yaml")), tmp_path / "runs", imgsz=640, batch=32, epochs=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert model.trainer.epoch == 0
    assert "Out of memory with" in caplog.text
