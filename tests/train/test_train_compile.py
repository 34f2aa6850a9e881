"""`compile=True` captures network and losses in one graph for each image size, by torch.compile's own report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from train_worlds import DUAL_MODEL, FAST, make_world

from yolopose import YOLO
from yolopose.config import make_options
from yolopose.train import Trainer, new_trainer
from yolopose.train import state as state_module


def make_trainer(root: Path, model: str, **options: Any) -> Trainer:
    data, model_yaml = make_world(root / "blocks", images=12)
    if model:
        model_yaml.write_text(model)
    given = make_options("train", {**FAST, "project": str(root / "runs"), "data": str(data), **options})
    return new_trainer(given, YOLO(model_yaml).model.yaml, None)


def run_epochs(trainer: Trainer, epochs: int) -> tuple[list[float], Counter[tuple[int, ...]]]:
    """Return the losses of all batches, and how many of them have each image size."""
    losses: list[float] = []
    sizes: Counter[tuple[int, ...]] = Counter()
    state = trainer._state
    preprocess = state._preprocess

    def watched(*args: Any) -> torch.Tensor:
        pixels = preprocess(*args)
        sizes[tuple(pixels.shape)] += 1
        return pixels

    state._preprocess = watched  # type: ignore[method-assign]
    for epoch in range(epochs):
        state.begin_epoch(epoch, epochs)
        for number, batch in enumerate(trainer._batches.epoch(epoch, multi_image=True)):
            terms = state.forward_backward(batch, epoch, number)
            losses.append(float(terms.total))
            state.step(epoch * len(trainer._batches) + number)
    return losses, sizes


@pytest.mark.slow
@pytest.mark.parametrize("model", ["", DUAL_MODEL], ids=["pose", "pose26"])
@pytest.mark.parametrize("multi_scale", [0.0, 0.5])
def test_each_image_size_is_one_graph(
    model: str, multi_scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # these backends capture the same graphs as the default one, without compiling kernels
    backend = "eager" if multi_scale else "aot_eager"
    monkeypatch.setattr(state_module, "_compile", lambda function, _: torch.compile(function, backend=backend))
    options: dict[str, Any] = {"mosaic": 1.0, "multi_scale": multi_scale, "epochs": 3}
    expected, _ = run_epochs(make_trainer(tmp_path / "eager", model, **{**options, "multi_scale": 0.0}), 3)
    torch._dynamo.reset()
    counters.clear()
    losses, sizes = run_epochs(make_trainer(tmp_path / "compiled", model, **options, compile=True), 3)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == len(sizes)
    assert len(sizes) == 1 if not multi_scale else 1 < len(sizes) <= 5
    if not multi_scale:
        assert losses == pytest.approx(expected, rel=1e-3)
