"""The folder of a run: its arguments, rows, weights and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from yolopose.base.files import make_folder, write_text
from yolopose.base.yamlfile import to_yaml
from yolopose.config import TrainOptions
from yolopose.nn import PoseModel
from yolopose.train.feed import TrainBatch
from yolopose.train.record import COLUMNS, History, save_labels_picture, save_results_picture, save_train_batch
from yolopose.train.saves import save_running, save_weights, strip
from yolopose.train.settle import TrainData
from yolopose.weights import load_network

_DRAWN_BATCHES = 3


class RunFolder:
    """Writes what a run leaves behind; each file whole or not at all.

    Args:
        path: the folder, made already.
        options: settled options of the run.
        data: its data.
        license_: licence that the starting weights bring along, and the trained ones carry on.

    Attributes:
        path: the folder.
        wdir, last, best, csv: places within.
        license: the licence.
        history: the rows of results.csv.
    """

    def __init__(self, path: Path, options: TrainOptions, data: TrainData, license_: str) -> None:
        self.path, self._options, self._data, self.license = path, options, data, license_
        self.wdir, self.csv = path / "weights", path / "results.csv"
        self.last, self.best = self.wdir / "last.pt", self.wdir / "best.pt"
        self.history = History(self.csv)

    @property
    def args(self) -> dict[str, Any]:
        """All arguments of the run, as args.yaml and the weights files hold them."""
        options = asdict(replace(self._options, resume=False))
        return {"task": "pose", "mode": "train", **options, "save_dir": str(self.path)}

    def open(self, network: PoseModel, state: Mapping[str, Any], *, resumed: bool) -> None:
        """Writes what is known before the first batch.

        Args:
            network: the average network.
            state: of the run; with it even an interruption in the first epoch has a file to go back to.
            resumed: the run goes on, so all of this is there.
        """
        if resumed:
            return
        write_text(self.path / "args.yaml", to_yaml(self.args))
        if self._options.save:
            make_folder(self.wdir)
            self.save_running(network, 0, state)
        if self._options.plots:
            save_labels_picture(self._data.train, self._data.spec, self.path / "labels.jpg")

    def go_on(self, done: int) -> None:
        """Takes up the rows of the epochs done before an interruption."""
        self.history = History.read(self.csv, done)

    def add_row(self, row: Mapping[str, float]) -> None:
        """Adds an epoch to results.csv; what was not measured stays empty."""
        self.history.add({**dict.fromkeys(COLUMNS, float("nan")), **row})

    def save(
        self, network: PoseModel, done: int, metrics: Mapping[str, float], state: Mapping[str, Any], *, better: bool
    ) -> None:
        """Writes the weights of an epoch.

        Args:
            network: the average network.
            done: epochs done.
            metrics: what was measured after it.
            state: of the run.
            better: it is the best so far.
        """
        period = self._options.save_period
        paths = [self.best] if better else []
        paths += [self.wdir / f"epoch{done}.pt"] if period > 0 and done % period == 0 else []
        for path in paths:
            save_weights(path, network, args=self.args, epoch=done, metrics=metrics, license_=self.license)
        # last of all: an interruption in between repeats the epoch and writes the others again
        self.save_running(network, done, state)

    def save_running(self, network: PoseModel, done: int, state: Mapping[str, Any]) -> None:
        """Writes last.pt with the state of the run."""
        save_running(self.last, network, args=self.args, epoch=done, license_=self.license, state=state)

    def close(self) -> PoseModel:
        """Leaves weights alone in last.pt and best.pt; returns the best network."""
        for path in (self.best, self.last):
            strip(path)
        return load_network(self.best)[0]

    def draw(self, batch: TrainBatch, epoch: int, number: int) -> None:
        """Draws the first batches of the first epoch."""
        if self._options.plots and epoch == 0 and number < _DRAWN_BATCHES:
            files = [self._data.train.files[index].name for index in batch.index.tolist()]
            save_train_batch(batch, self.path / f"train_batch{number}.jpg", files, self._data.spec)

    def draw_results(self) -> None:
        """Draws results.png."""
        if self._options.plots:
            save_results_picture(self.history, self.path / "results.png")
