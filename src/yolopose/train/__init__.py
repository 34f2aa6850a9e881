"""Training: the loop, and the small handles that it calls."""

# it loads torch in the way that is wanted, so it comes first
import yolopose.nn  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split
from yolopose.train.distributed import Launcher
from yolopose.train.distributed.worker import worker_main, worker_trainer
from yolopose.train.loop import Trainer
from yolopose.train.setup import new_trainer, resume_path, resumed_trainer
from yolopose.train.start import InitialWeights

__all__ = [
    "Launcher",
    "Trainer",
    "InitialWeights",
    "worker_trainer",
    "new_trainer",
    "resume_path",
    "resumed_trainer",
    "worker_main",
]
