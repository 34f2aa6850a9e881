"""The folder of a run: its arguments, rows, weights and images."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from yolopose.base.errors import OutputError
from yolopose.base.files import make_folder, remove_unfinished, write_text
from yolopose.base.log import LOGGER
from yolopose.base.yamlfile import to_yaml
from yolopose.config import TrainOptions
from yolopose.nn import PoseModel
from yolopose.train.checkpoint import save_running, save_weights, strip
from yolopose.train.data import TrainData
from yolopose.train.feed import TrainBatch
from yolopose.train.record import COLUMNS, History, plot_labels, plot_results, plot_train_batch
from yolopose.weights import load_network

_DRAWN_BATCHES = 3


@dataclass(frozen=True, slots=True, eq=False)
class _Weights:
    """Weights on their way to the disk."""

    network: PoseModel
    done: int
    metrics: Mapping[str, float]


class RunFolder:
    """Writes what a run leaves behind; each file whole or not at all.

    Of an epoch `last.pt` is written last, so that it never tells of what is not on disk: a run that is killed at any
    moment goes on from it, repeats what came after it, and writes the same files again. An epoch that cannot be
    written, as on a full disk, is kept in memory and tried again after the next one.

    Args:
        path: the folder, made already.
        options: settled options of the run.
        data: its data.
        license_: license that the starting weights bring along, and the trained ones carry on.
        columns: of results.csv.

    Attributes:
        path: the folder.
        wdir, last, best, csv: places within.
        license: the license.
        history: the rows of results.csv.
    """

    def __init__(
        self, path: Path, options: TrainOptions, data: TrainData, license_: str, columns: Sequence[str] = COLUMNS
    ) -> None:
        self.path, self._options, self._data, self.license = path, options, data, license_
        self.wdir, self.csv = path / "weights", path / "results.csv"
        self.last, self.best = self.wdir / "last.pt", self.wdir / "best.pt"
        self.history = History(self.csv, columns=columns)
        self._waiting: dict[Path, _Weights] = {}
        self._failed = False  # whether the last attempt to write an epoch did
        self._drawn = True  # likewise for images

    @property
    def args(self) -> dict[str, Any]:
        """All arguments of the run, as args.yaml and the weights files hold them."""
        options = asdict(replace(self._options, resume=False))
        return {"task": "pose", "mode": "train", **options, "save_dir": str(self.path)}

    def open(self, network: PoseModel, state: Mapping[str, Any], *, resumed: bool) -> None:
        """Write what is known before the first batch.

        Args:
            network: the average network.
            state: of the run; with it even an interruption in the first epoch has a file to go back to.
            resumed: the run goes on, so all of this is there.
        """
        for folder in (self.path, self.wdir):
            remove_unfinished(folder)
        if resumed:
            return
        write_text(self.path / "args.yaml", to_yaml(self.args))
        if self._options.plots:
            plot_labels(self._data.train, self._data.spec, self.path / "labels.jpg")
        if self._options.save:
            make_folder(self.wdir)
            self.save_running(network, 0, state)

    def go_on(self, done: int) -> None:
        """Take up the rows of the epochs done before an interruption."""
        self.history = History.read(self.csv, done, self.history.columns)

    def add_epoch(
        self,
        row: Mapping[str, float],
        network: PoseModel,
        done: int,
        metrics: Mapping[str, float],
        state: Mapping[str, Any],
        *,
        better: bool,
    ) -> bool:
        """Add an epoch to results.csv and writes its weights.

        Args:
            row: its numbers; what was not measured stays empty.
            network: the average network.
            done: epochs done.
            metrics: what was measured after it.
            state: of the run.
            better: it is the best so far.

        Returns:
            Whether all is on disk. Where not, that is said, and tried again with the next epoch.
        """
        period = self._options.save_period
        paths = [self.best] if better else []
        paths += [self.wdir / f"epoch{done}.pt"] if period > 0 and done % period == 0 else []
        if self._options.save:
            self._waiting |= dict.fromkeys(paths, _Weights(network, done, metrics))
        try:
            self.history.add({**dict.fromkeys(self.history.columns, float("nan")), **row})
            if self._options.save:
                self.save_running(network, done, state)
        except OutputError as error:
            still = _Weights(copy.deepcopy(network), done, metrics)  # the network itself goes on learning
            self._waiting |= {path: still for path, kept in self._waiting.items() if kept.network is network}
            if not self._failed:
                LOGGER.error(
                    f"{error} The training goes on without it: epoch {done} is kept in memory, and written after a "
                    "later epoch when there is space again."
                )
            self._failed = True
            return False
        if self._failed:
            LOGGER.info(f"Files can be written again: all up to epoch {done} is kept.")
        self._failed = False
        return True

    def catch_up(self, network: PoseModel, done: int, state: Mapping[str, Any], *, ended: bool) -> None:
        """Try for a last time, after the last epoch, what could not be written.

        Args:
            network: the average network.
            done: epochs done.
            state: of the run.
            ended: the run ends before its last epoch; last.pt must know, or a resumed run would train on.

        Raises:
            OutputError: it still cannot be written.
        """
        if not (self._failed or ended):
            return
        try:
            self.history.write()
            if self._options.save:
                self.save_running(network, done, state)
        except OutputError as error:
            back = f" Make room, then go on from the last epoch that was: {self.way_back}" if self._options.save else ""
            raise OutputError(f"{error} All {done} epochs are done, but the last ones are not kept.{back}") from error

    @property
    def way_back(self) -> str:
        """The command that goes on with the run."""
        return f"yolo pose train resume=True model={self.last}"

    def save_running(self, network: PoseModel, done: int, state: Mapping[str, Any]) -> None:
        """Write last.pt with the state of the run, after all that it tells of.

        Raises:
            OutputError: a file cannot be written; last.pt stands as it was.
        """
        if self._failed:
            self.history.write()
        for path, kept in list(self._waiting.items()):
            save_weights(
                path, kept.network, args=self.args, epoch=kept.done, metrics=kept.metrics, license_=self.license
            )
            del self._waiting[path]
        save_running(self.last, network, args=self.args, epoch=done, license_=self.license, state=state)

    def close_best(self) -> PoseModel:
        """Leave weights alone in best.pt; returns them."""
        strip(self.best)
        return load_network(self.best)[0]

    def close_last(self) -> None:
        """Leave weights alone in last.pt: the last act of a run, since nothing can be resumed after it."""
        strip(self.last)

    def draw(self, batch: TrainBatch, epoch: int, number: int) -> None:
        """Draw the first batches of the first epoch; an image that cannot be written is said once, and left out."""
        if not (self._options.plots and epoch == 0 and number < _DRAWN_BATCHES):
            return
        files = [self._data.train.files[index].name for index in batch.index.tolist()]
        try:
            plot_train_batch(batch, self.path / f"train_batch{number}.jpg", files, self._data.spec)
        except OutputError as error:
            if self._drawn:
                LOGGER.warning(f"{error} The training goes on without this image.")
            self._drawn = False

    def draw_results(self) -> None:
        """Draw results.png."""
        if self._options.plots:
            plot_results(self.history, self.path / "results.png")
