"""What `YOLO.train` does before the training: what it starts from, or which run it goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolopose.base.settings import load_settings
from yolopose.config import TrainOptions
from yolopose.model.hub import find_weights
from yolopose.train import InitialWeights, Launcher, Trainer, new_trainer, resume_path, resumed_trainer
from yolopose.weights import read_checkpoint

if TYPE_CHECKING:
    from yolopose.model.yolo import YOLO


def trainer_of(
    model: YOLO, chosen: TrainOptions, given: Mapping[str, Any], launcher: Launcher, *, fresh: bool
) -> Trainer:
    """Make the trainer that a call asks for.

    Args:
        model: what holds the network.
        chosen: all options.
        given: those that the caller gave.
        launcher: gathers the processes of several devices.
        fresh: whether the network has learned nothing yet, and training draws its own start.

    Raises:
        YoloposeError: as `yolopose.train.new_trainer` and `resumed_trainer`.
    """
    if chosen.resume:
        path = resume_path(chosen.resume, Path(model.model_name), Path(load_settings().runs_dir))
        return resumed_trainer(find_weights(path), given, model.callbacks, launcher)
    chosen = replace(chosen, model=model.model_name)
    return new_trainer(chosen, model.model.yaml, _start(model, chosen, fresh), model.callbacks, launcher)


def _start(model: YOLO, chosen: TrainOptions, fresh: bool) -> InitialWeights | None:
    """The weights to start from: those that `pretrained=` names, or the network's own; None where it has none yet."""
    if isinstance(chosen.pretrained, str):
        path = find_weights(Path(chosen.pretrained))
        found = read_checkpoint(path)
        classes = found.metadata.spec.classes if found.metadata else ()
        return InitialWeights(found.state, classes, str(path), found.license)
    if not chosen.pretrained or fresh:
        return None
    license_ = model.ckpt.license if model.ckpt else ""
    return InitialWeights(model.model.state_dict(), model.spec.classes, model.model_name, license_)
