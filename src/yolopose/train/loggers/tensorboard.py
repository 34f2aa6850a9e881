"""TensorBoard: an events file in the run folder; `tensorboard --logdir runs` shows all runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolopose.base.log import LOGGER


class TensorBoardLog:
    """The events file of a run."""

    def __init__(self, trainer: Any) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        # rows that a resumed run writes again replace those after its beginning
        self._writer: Any = SummaryWriter(str(trainer.save_dir), purge_step=trainer.epoch + 1)
        LOGGER.info(f"TensorBoard: tensorboard --logdir {trainer.save_dir}")

    def write(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of an epoch."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()


start = TensorBoardLog
