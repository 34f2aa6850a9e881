"""The processes of a training that do not lead: they wait for an order, and train along."""

from __future__ import annotations

import hashlib
import os
import signal
import traceback
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from yolopose.base.errors import TrainError
from yolopose.base.log import silent
from yolopose.config import TrainOptions
from yolopose.data import Annotations
from yolopose.nn import build_network
from yolopose.train.compute_config import ComputeConfig
from yolopose.train.data import load_data
from yolopose.train.distributed.launcher import Launcher
from yolopose.train.distributed.process_group import ProcessGroup
from yolopose.train.loop import Trainer


def start_workers(group: ProcessGroup, trainer: Trainer, state: Mapping[str, Any] | None) -> Trainer:
    """Return the others what to train; rank 0 calls it, the others `worker_trainer`.

    Args:
        group: the processes.
        trainer: made already, so that caches of the data are there for all.
        state: of the interrupted run that goes on.
    """
    group.tell(
        {
            "options": asdict(trainer.args),
            "plan": trainer.plan.state_dict(),
            "yaml": dict(trainer.model.yaml),
            "network": trainer.ema.model.state_dict(),
            "state": state,
            "save_dir": str(trainer.save_dir),
            "images": digest(trainer.data.train),
        }
    )
    return trainer


def worker_trainer(launcher: Launcher) -> Trainer:
    """Join the others and makes the trainer that trains along; it measures, writes and says nothing.

    Raises:
        RankLost: another process has failed.
        TrainError: this one sees other data than rank 0.
        YoloposeError: as for `new_trainer`.
    """
    device = launcher.join()
    order = launcher.group.hear()
    options = replace(TrainOptions(**order["options"]), verbose=False, plots=False)
    data = load_data(options)
    if digest(data.train) != order["images"]:
        raise TrainError(
            f"Training images or labels of {data.dataset.yaml_path} differ from those that rank 0 has: all processes "
            "of a training must see the same data set."
        )
    network = build_network(order["yaml"], spec=data.spec)
    network.load_state_dict(order["network"])
    # gradients that wait for a step are rank 0's to add
    state = order["state"] and {**order["state"], "gradients": None}
    save_dir = Path(order["save_dir"])
    plan = ComputeConfig.from_state(order["plan"], "as rank 0 says")
    plan = plan and plan.among(launcher.group.workers)
    return Trainer(network, data, options, device, save_dir, group=launcher.group, state=state, plan=plan)


def worker_main() -> None:
    """Wait for an order of rank 0 and trains along; what a process does that was started to follow."""
    with silent(), Launcher() as launcher:
        worker_trainer(launcher).train()


def digest(table: Annotations) -> str:
    """Return a name of labels and images: equal where they are."""
    found = hashlib.sha256("\n".join(file.name for file in table.files).encode())
    for part in (table.shapes, table.offsets, table.classes, table.boxes, table.keypoints):
        found.update(part.tobytes())
    return found.hexdigest()


def main() -> int:
    """What a process does that rank 0 has started; returns its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker_main()
    except KeyboardInterrupt:
        return 0
    except Exception:  # rank 0 has been told, and says it
        if os.environ.get("YOLO_DEBUG") == "1":
            traceback.print_exc()
        return 1
    return 0
