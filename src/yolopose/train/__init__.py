"""Training: the loop, and the small handles that it calls."""

# it loads torch in the way that is wanted, so it comes first
import yolopose.nn  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split
from yolopose.train.loop import Trainer
from yolopose.train.ranks import Crew
from yolopose.train.ranks.follow import follow, train_along
from yolopose.train.run import new_trainer, resume_path, resumed_trainer
from yolopose.train.start import Weights

__all__ = ["Crew", "Trainer", "Weights", "follow", "new_trainer", "resume_path", "resumed_trainer", "train_along"]
