"""Worker processes (rank 1 and up): receive the run from rank 0 and train with it."""

from __future__ import annotations

import hashlib
import os
import signal
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolopose.base.errors import TrainError
from yolopose.base.log import silent
from yolopose.config import TrainOptions, train_settings
from yolopose.data import Annotations
from yolopose.nn import build_network
from yolopose.nn.model_yaml import input_channels
from yolopose.train.checkpoint import options_dict
from yolopose.train.compute_config import ComputeConfig
from yolopose.train.data import load_data
from yolopose.train.distributed.launcher import Launcher
from yolopose.train.distributed.process_group import ProcessGroup
from yolopose.train.loop import Trainer
from yolopose.train.pseudo_labels import from_plain, to_plain


def start_workers(group: ProcessGroup, trainer: Trainer, state: Mapping[str, Any] | None) -> Trainer:
    """Send the run to the workers and return the trainer of rank 0.

    Args:
        group: the processes.
        trainer: of rank 0; the label caches that it wrote are read by the workers.
        state: of the interrupted run that is resumed.
    """
    group.broadcast_object(
        {
            "options": options_dict(trainer.args),
            "compute": trainer.compute_config.state_dict(),
            "yaml": dict(trainer.model.yaml),
            "network": trainer.ema.model.state_dict(),
            "state": state,
            "save_dir": str(trainer.save_dir),
            "labels": digest(trainer.data.train),
            "pseudo": to_plain(trainer.data.pseudo),
        }
    )
    return trainer


def worker_trainer(launcher: Launcher) -> Trainer:
    """Join the process group and return the trainer of a worker, which does not validate, write or log.

    Raises:
        RankLost: another process has failed.
        TrainError: this process reads other data than rank 0.
        YoloposeError: as for `new_trainer`.
    """
    device = launcher.join()
    run = launcher.group.broadcast_object()
    options = replace(TrainOptions(**run["options"]), verbose=False, plots=False)
    data = load_data(options, input_channels(run["yaml"]))
    if digest(data.train) != run["labels"]:
        raise TrainError(
            f"Training images or labels of {data.dataset.yaml_path} differ from those of rank 0: all processes of a "
            "training must read the same data set."
        )
    data = replace(data, pseudo=from_plain(run["pseudo"]))
    network = build_network(run["yaml"], spec=data.spec)
    network.load_state_dict(run["network"])
    # Gradients that wait for a step were summed into rank 0 when they were saved.
    state = run["state"] and {**run["state"], "gradients": None}
    config = ComputeConfig.from_state(run["compute"], "from rank 0")
    return Trainer(
        network,
        data,
        train_settings(options, max(network.stride)),
        device,
        Path(run["save_dir"]),
        group=launcher.group,
        state=state,
        compute_config=config and config.for_rank(launcher.group.max_workers),
    )


def worker_main() -> None:
    """Wait for rank 0 to start a training and take part in it."""
    with silent(), Launcher() as launcher:
        worker_trainer(launcher).train()


def digest(table: Annotations) -> str:
    """Return a hash of image names and labels."""
    result = hashlib.sha256("\n".join(file.name for file in table.files).encode())
    for array in (table.shapes, table.offsets, table.classes, table.boxes, table.keypoints):
        result.update(array.tobytes())
    return result.hexdigest()


def main() -> int:
    """Run a process that rank 0 has started; return its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker_main()
    except KeyboardInterrupt:
        return 0
    except Exception:  # rank 0 has been informed and reports it
        if os.environ.get("YOLO_DEBUG") == "1":
            traceback.print_exc()
        return 1
    return 0
