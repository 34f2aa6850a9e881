"""Training: setup of a run, the loop, and the parts that it calls."""

# Imported before torch is: it sets environment variables that torch reads when it is loaded.
import yolopose.nn  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split
from yolopose.train.distributed import Launcher
from yolopose.train.distributed.worker import worker_main, worker_trainer
from yolopose.train.initial_weights import InitialWeights
from yolopose.train.loop import Trainer
from yolopose.train.setup import new_trainer, resume_path, resumed_trainer

__all__ = [
    "InitialWeights", "Launcher", "Trainer", "new_trainer", "resume_path", "resumed_trainer", "worker_main",
    "worker_trainer",
]  # fmt: skip
