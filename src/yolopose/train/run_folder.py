"""Run folder: arguments, results.csv, checkpoints and images of a run."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolopose.base.errors import OutputError
from yolopose.base.files import make_folder, remove_unfinished, write_text
from yolopose.base.log import LOGGER
from yolopose.base.yamlfile import to_yaml
from yolopose.config import TrainSettings
from yolopose.nn import PoseModel
from yolopose.train.checkpoint import options_dict, save_state, save_weights, strip_state
from yolopose.train.data import TrainData
from yolopose.train.feed import TrainBatch
from yolopose.train.record import COLUMNS, History, plot_labels, plot_results, plot_train_batch
from yolopose.weights import load_network

_DRAWN_BATCHES = 3


@dataclass(frozen=True, slots=True, eq=False)
class _PendingWeights:
    """Weights that are not on disk yet."""

    network: PoseModel
    epochs: int  # completed
    metrics: Mapping[str, float]


class RunFolder:
    """Write the files of a run, each atomically.

    `last.pt` is written last in every epoch, so that it never refers to anything that is not on disk: a run that is
    killed at any moment resumes from it, repeats what came after it and writes the same files again. An epoch that
    cannot be written, for example on a full disk, is kept in memory and written with a later one.

    Args:
        path: the folder, which exists.
        settings: of the run.
        data: training data.
        license_: license of the initial weights, passed on to the trained ones.
        columns: of results.csv.

    Attributes:
        path: the folder.
        wdir, last, best, csv: paths inside it.
        license: the license.
        history: the rows of results.csv.
    """

    def __init__(
        self, path: Path, settings: TrainSettings, data: TrainData, license_: str, columns: Sequence[str] = COLUMNS
    ) -> None:
        self.path = path
        self.wdir = path / "weights"
        self.last = self.wdir / "last.pt"
        self.best = self.wdir / "best.pt"
        self.csv = path / "results.csv"
        self.license = license_
        self.history = History(self.csv, columns=columns)
        self._settings = settings
        self._data = data
        self._pending: dict[Path, _PendingWeights] = {}
        self._write_failed = False  # whether the last attempt to write an epoch failed
        self._image_failed = False  # whether an image could not be written

    @property
    def args(self) -> dict[str, Any]:
        """All arguments of the run, as args.yaml and the checkpoints hold them."""
        options = {**options_dict(self._settings), "resume": False}
        return {"task": "pose", "mode": "train", **options, "save_dir": str(self.path)}

    @property
    def resume_command(self) -> str:
        """The command that resumes the run."""
        return f"yolo pose train resume=True model={self.last}"

    def open(self, network: PoseModel, state: Mapping[str, Any], *, resumed: bool) -> None:
        """Write what is known before the first batch.

        Args:
            network: the averaged network.
            state: of the run, so that an interruption in the first epoch can be resumed too.
            resumed: the run continues, so these files exist.
        """
        for folder in (self.path, self.wdir):
            remove_unfinished(folder)
        if resumed:
            return
        write_text(self.path / "args.yaml", to_yaml(self.args))
        if self._settings.plots:
            plot_labels(self._data.train, self._data.spec, self.path / "labels.jpg")
        if self._settings.save:
            make_folder(self.wdir)
            self.save_last(network, 0, state)

    def add_initial(self, network: PoseModel, metrics: Mapping[str, float]) -> None:
        """Write the initial weights as best.pt.

        Args:
            network: the averaged network before the first step.
            metrics: of its validation.

        Raises:
            OutputError: the file cannot be written.
        """
        if self._settings.save:
            save_weights(self.best, network, args=self.args, epoch=0, metrics=metrics, license_=self.license)

    def read_history(self, epochs: int) -> None:
        """Read the rows of the epochs completed before an interruption."""
        self.history = History.read(self.csv, epochs, self.history.columns)

    def add_epoch(
        self,
        row: Mapping[str, float],
        network: PoseModel,
        epochs: int,
        metrics: Mapping[str, float],
        state: Mapping[str, Any],
        *,
        is_best: bool,
    ) -> bool:
        """Add an epoch to results.csv and write its weights.

        Args:
            row: values by column; missing ones stay empty.
            network: the averaged network.
            epochs: completed epochs.
            metrics: of the validation after this epoch.
            state: of the run.
            is_best: it is the best so far.

        Returns:
            Whether everything is on disk. A failure is logged, and the next epoch tries again.
        """
        period = self._settings.save_period
        paths = [self.best] if is_best else []
        if period > 0 and epochs % period == 0:
            paths.append(self.wdir / f"epoch{epochs}.pt")
        if self._settings.save:
            self._pending |= dict.fromkeys(paths, _PendingWeights(network, epochs, metrics))
        try:
            self.history.add({**dict.fromkeys(self.history.columns, float("nan")), **row})
            if self._settings.save:
                self.save_last(network, epochs, state)
        except OutputError as error:
            # The network is updated by the next epoch, so pending weights need a copy.
            copied = _PendingWeights(copy.deepcopy(network), epochs, metrics)
            self._pending |= {path: copied for path, weights in self._pending.items() if weights.network is network}
            if not self._write_failed:
                LOGGER.error(
                    f"{error} Training continues: epoch {epochs} is kept in memory and written after a later epoch "
                    "when there is space again."
                )
            self._write_failed = True
            return False
        if self._write_failed:
            LOGGER.info(f"Files can be written again: all epochs up to {epochs} are saved.")
        self._write_failed = False
        return True

    def save_last(self, network: PoseModel, epochs: int, state: Mapping[str, Any]) -> None:
        """Write last.pt with the state of the run, after everything that it refers to.

        Raises:
            OutputError: a file cannot be written; last.pt is unchanged.
        """
        if self._write_failed:
            self.history.write()
        for path, weights in list(self._pending.items()):
            save_weights(
                path,
                weights.network,
                args=self.args,
                epoch=weights.epochs,
                metrics=weights.metrics,
                license_=self.license,
            )
            del self._pending[path]
        save_state(self.last, network, args=self.args, epoch=epochs, license_=self.license, state=state)

    def retry_failed(self, network: PoseModel, epochs: int, state: Mapping[str, Any], *, stopped: bool) -> None:
        """Write, after the last epoch, what could not be written before.

        Args:
            network: the averaged network.
            epochs: completed epochs.
            state: of the run.
            stopped: the run ends before its last epoch; last.pt must record it, or a resumed run would train on.

        Raises:
            OutputError: it still cannot be written.
        """
        if not (self._write_failed or stopped):
            return
        try:
            self.history.write()
            if self._settings.save:
                self.save_last(network, epochs, state)
        except OutputError as error:
            advice = f" Free some space, then resume from the last saved epoch: {self.resume_command}"
            raise OutputError(
                f"{error} All {epochs} epochs are trained, but the last ones are not saved."
                f"{advice if self._settings.save else ''}"
            ) from error

    def strip_best(self) -> PoseModel:
        """Reduce best.pt to its weights and return the network."""
        strip_state(self.best)
        return load_network(self.best)[0]

    def strip_last(self) -> None:
        """Reduce last.pt to its weights: the last action of a run, which cannot be resumed afterwards."""
        strip_state(self.last)

    def draw_batch(self, batch: TrainBatch, epoch: int, number: int) -> None:
        """Draw the first batches of the first epoch; the first image that cannot be written causes one warning."""
        if not (self._settings.plots and epoch == 0 and number < _DRAWN_BATCHES):
            return
        files = [self._data.image_file(index).name for index in batch.index.tolist()]
        try:
            plot_train_batch(batch, self.path / f"train_batch{number}.jpg", files, self._data.spec)
        except OutputError as error:
            if not self._image_failed:
                LOGGER.warning(f"{error} Training continues without this image.")
            self._image_failed = True

    def draw_results(self) -> None:
        """Draw results.png."""
        if self._settings.plots:
            plot_results(self.history, self.path / "results.png")


class NullRunFolder(RunFolder):
    """Run folder of the processes that write nothing: rank 0 writes for all."""

    def open(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    def read_history(self, epochs: int) -> None:
        """Do nothing."""

    def save_last(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    def draw_batch(self, *_: Any, **__: Any) -> None:
        """Do nothing."""
