"""The training loop, from top to bottom.

    for each epoch:
        for each batch:
            rates of this batch · losses · gradients · a step when enough batches are summed
        validate the average network · a row in results.csv · last.pt, and best.pt on a new best
    validate best.pt

What happens within each of these lines stands in a file of its own in this room.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import DataError, TrainError
from yolopose.base.log import LOGGER
from yolopose.base.progress import format_duration
from yolopose.config import TrainOptions, adjustable
from yolopose.evaluate import PoseMetrics
from yolopose.nn import PoseModel
from yolopose.train.compute_config import ComputeConfig, default_config
from yolopose.train.data import TrainData
from yolopose.train.distributed import ProcessGroup, RankLost
from yolopose.train.distributed.folder import NullRunFolder
from yolopose.train.feed import TrainBatch, TrainBatches
from yolopose.train.interrupt import InterruptHandler
from yolopose.train.nan_guard import Diverged, NanGuard
from yolopose.train.optimizer import settled_batch
from yolopose.train.record import HEADER_EVERY, EpochLine, epoch_summary, final_report, results_columns
from yolopose.train.reproducible import reproducible
from yolopose.train.run_folder import RunFolder
from yolopose.train.state import TrainState
from yolopose.train.tally import LossMeter
from yolopose.train.validation import measure


class Trainer:
    """One training run; what callbacks are given.

    Args:
        network: where it starts from, made for the data; it is trained in place.
        data: what is learned from and measured on.
        options: settled options.
        device: where to compute.
        save_dir: the run folder, made already.
        callbacks: functions by event.
        logs: more of them, that write logs.
        license_: license that the starting weights bring along.
        state: `state_dict` of an interrupted run, to go on from; the network then holds its average.
        group: the processes that train together, each with such an object; one alone when left out. Rank 0 measures,
            writes, speaks and calls the functions; what it decides holds for all.
        plan: how to compute; as options and processor say when left out.

    Attributes:
        args: the options.
        plan: how it computes.
        data: the data.
        device: where it computes.
        model: the network in training.
        ema: its average, which is validated and saved; `ema.model` is a network.
        optimizer: torch's optimizer.
        epoch: the epoch in work, from 0; after training the last one that was done.
        epochs: how many there will be.
        batch_i: the batch in work, from 0 in each epoch.
        loss: total loss of the last batch.
        loss_items: (T,) terms of the last batch, in the order of `loss_names`.
        loss_names: `box_loss`, `pose_loss`, `kobj_loss`, `cls_loss`, `dfl_loss`; with the head of YOLO26 `l1_loss`
            and `rle_loss` instead of the last.
        metrics: `metrics/…` and `val/…` of the last validation.
        validator: its metrics object.
        fitness: box mAP50-95 + pose mAP50-95 of it.
        best_fitness: the best so far.
        stop: set it to True in a callback to end the run after this epoch.
        save_dir, wdir, last, best, csv: where the run's files are.
    """

    def __init__(
        self,
        network: PoseModel,
        data: TrainData,
        options: TrainOptions,
        device: torch.device,
        save_dir: Path,
        *,
        callbacks: Callbacks | None = None,
        logs: Callbacks | None = None,
        license_: str = "",
        state: Mapping[str, Any] | None = None,
        group: ProcessGroup | None = None,
        plan: ComputeConfig | None = None,
    ) -> None:
        self._group, self.plan = group or ProcessGroup(), plan or default_config(options, device)
        group, planned = self._group, self.plan.applied(options)
        options = adjustable(options)
        self.args, self.data, self.device, self.callbacks = options, data, device, callbacks or Callbacks()
        self._logs, self.batch_size = logs or Callbacks(), settled_batch(options)
        self._batches = TrainBatches(
            data.train,
            data.spec,
            planned,
            imgsz=options.imgsz if isinstance(options.imgsz, int) else max(options.imgsz),
            batch=self.batch_size,
            stride=max(network.stride),
            workers=min(self.plan.workers, group.workers),
            pin_memory=device.type == "cuda",
            share=(group.rank, group.size),
            render_on=device if device.type == "cuda" else None,
        )
        self._learner = TrainState(network, data, planned, device, len(self._batches), group)
        self._tally = LossMeter(self._learner.criterion.terms, device)
        self.loss_names = self._tally.names
        self._guard = NanGuard(self._learner)
        self.model, self.ema, self.optimizer = self._learner.model, self._learner.ema, self._learner.optimizer.torch
        self._folder = (RunFolder if group.leads else NullRunFolder)(save_dir, options, data, license_, self._columns)
        self.save_dir, self.wdir, self.csv = save_dir, self._folder.wdir, self._folder.csv
        self.last, self.best = self._folder.last, self._folder.best
        self.epoch = self.start_epoch = self.batch_i = self.best_epoch = 0
        self.epochs = options.epochs
        self.loss, self.loss_items = torch.zeros(()), self.tloss
        self.metrics: dict[str, float] = {}
        self.validator: PoseMetrics | None = None
        self.fitness = self.best_fitness = 0.0
        self.stop = False
        self._first = 0  # the batch that the epoch begins with: not 0 only after an interruption
        self._interruption = InterruptHandler(passed_on=group.size > 1)
        self._reproducible = reproducible(device, options.deterministic)
        self._seconds, self._clock = 0.0, time.monotonic()
        if state is not None:
            self._restore(state)

    @property
    def tloss(self) -> Tensor:
        """(T,) means of the terms over the epoch so far, in the order of `loss_names`."""
        return self._tally.mean

    # -- the loop -------------------------------------------------------------------------------

    def train(self) -> PoseMetrics | None:
        """Train, and validates the best network.

        Returns:
            The metrics of `best.pt`; None when the data has nothing to measure on, and in processes that do not lead.

        Raises:
            TrainError: the losses are no numbers any more, or another process of the training is lost.
            DataError: an image cannot be read any more, or a worker process died.
            OutputError: a file cannot be written.
            KeyboardInterrupt: the run was interrupted; `last.pt` holds all that `resume` needs.
        """
        with self.plan.apply():
            return self._train()

    def _train(self) -> PoseMetrics | None:
        self._begin()
        try:
            with self._interruption.watched(), self._batches.reraise_worker_errors(), self._reproducible:
                while self.epoch < self.epochs and not self.stop:
                    self._emit("on_train_epoch_start")
                    try:
                        self._train_epoch()
                    except Diverged as why:
                        self._tally.sum = self._guard.go_back(why)
                        continue
                    self._emit("on_train_epoch_end")
                    self._learner.gather()
                    self._tally.sum.zero_()
                    if self._group.leads:
                        self.metrics = {}  # an epoch that is not measured has none, rather than those of an earlier one
                        if self.args.val:
                            self._measure(self.ema.model)
                        self._close_epoch()
                        self._say()
                        self._emit("on_fit_epoch_end")
                    asked = self._agree()
                    self.epoch += 1
                    if asked and self.epoch < self.epochs and not self.stop:
                        self._leave(0)
        except (DataError, RankLost) as error:
            if not self.args.save:
                raise
            raise type(error)(
                f"{error} All up to the last whole epoch is kept; go on with: {self._folder.way_back}"
            ) from error
        finally:
            self._batches.close()
        self.epoch -= 1  # the last one that was done; callbacks at the end are told of it
        self._finish()
        return self.validator

    def _train_epoch(self) -> None:
        """Go through the batches of an epoch.

        Raises:
            RanAway: the weights are no good any more.
        """
        learner, guard = self._learner, self._guard
        learner.begin_epoch(self.epoch, self.epochs)
        guard.keep(self._tally.sum)
        with self._line() as line:
            for number, batch in enumerate(self._samples(), self._first):
                self.batch_i = number
                self._emit("on_train_batch_start")
                i = self.epoch * len(self._batches) + number
                accumulation = learner.schedule.apply(self.optimizer, i)
                terms = learner.learn(batch, self.epoch, number)
                guard.note("loss", torch.isfinite(terms.total), self._where)
                if learner.step_due(i, accumulation):
                    self._emit("optimizer_step")
                    guard.note("gradient", learner.step(i), self._where)
                    self._emit("on_params_update")
                    self._emit("on_before_zero_grad")
                self.loss, self.loss_items = terms.total.detach(), terms.stack()
                self._tally.add(terms, number + 1, last=number + 1 == len(self._batches))
                objects, images, asked = self._group.total(len(batch.classes), len(batch), self._interruption.asked)
                line.update(self._tally.shown, int(objects), tuple(batch.images.shape[2:]), int(images))
                self._folder.draw(batch, self.epoch, number)
                self._emit("on_train_batch_end")
                if asked and number + 1 < len(self._batches) and self._learner.at_rest(i):
                    self._leave(number + 1)
        guard.check(self._where)
        self._first = 0

    def _close_epoch(self) -> None:
        """Write the epoch's row and weights, and decides whether to go on. Unmeasured, the newest is the best."""
        done = self.epoch + 1
        better = done == 1 or not self.args.val or self.fitness > self.best_fitness
        if better:
            self.best_fitness, self.best_epoch = self.fitness, self.epoch
        rates = {f"lr/pg{index}": group["lr"] for index, group in enumerate(self.optimizer.param_groups)}
        losses = {f"train/{name}": value for name, value in self._tally.named().items()}
        row = {"epoch": done, "time": self._elapsed(), **losses, **self.metrics, **rates}
        self._keep_to_time(done)
        state = self.state_dict(done, 0)
        kept = self._folder.add_epoch(row, self.ema.model, done, self.metrics, state, better=better)
        if self._out_of_patience(self.epoch):
            LOGGER.info(f"No gain in {self.args.patience} epochs (patience): the best was epoch {self.best_epoch + 1}.")
            self.stop = True
        if self.args.save and kept:
            self._emit("on_model_save")

    def _agree(self) -> bool:
        """Take over what rank 0 has decided by what it measured, by time and callbacks; returns whether to leave."""
        epochs, stop, asked = self._group.told(self.epochs, self.stop, self._interruption.asked)
        self.stop = bool(stop)
        if epochs != self.epochs:
            self.epochs = int(epochs)
            self._learner.schedule = self._learner.schedule.with_epochs(self.epochs)
        return bool(asked)

    def _out_of_patience(self, epoch: int) -> bool:
        return bool(self.args.patience) and epoch - self.best_epoch >= self.args.patience

    def _begin(self) -> None:
        self._emit("on_pretrain_routine_start")
        self._folder.open(
            self.ema.model, self.state_dict(self.epoch, self._first), resumed=self.start_epoch > 0 or self._first > 0
        )
        val = f", {len(self.data.val)} to measure on" if self.data.val is not None else ""
        if self.epoch >= self.epochs or self.stop:
            LOGGER.info("All epochs of this run are done; what is left is to measure the best network.")
        beside = f" and {self._group.size - 1} more" if self._group.size > 1 else ""
        LOGGER.info(
            f"Training on {self.device}{beside} in {self._learner.precision}: "
            f"{self.data.amount(self.args.fraction)}{val}, {len(self._batches)} batches of up to {self.batch_size}, "
            f"imgsz {self.args.imgsz}, epochs "
            f"{self.start_epoch + 1}…{self.epochs}. {self._learner.optimizer}. Run folder: {self.save_dir}"
        )
        self._emit("on_pretrain_routine_end")
        LOGGER.info(f"Plan: {self.plan}.")
        self._clock = time.monotonic()
        self._emit("on_train_start")
        self._agree()

    def _finish(self) -> None:
        """Measure what is kept, draws the curves and leaves weights alone in the files."""
        if not self._group.leads:
            self.ema.model.load_state_dict(self._group.hear())
            return
        done = self.epoch + 1
        best = f" The best is epoch {self.best_epoch + 1}." if self.args.val else ""
        LOGGER.info(f"{done} {'epoch' if done == 1 else 'epochs'} in {format_duration(self._elapsed())}.{best}")
        self._folder.catch_up(self.ema.model, done, self.state_dict(done, 0), ended=self.stop)
        kept = self._folder.close_best() if self.args.save else self.ema.model
        self._group.tell(kept.state_dict())
        if self.data.val is not None:
            self._measure(kept, self.save_dir if self.args.plots or self.args.save_json else None)
            if self.validator is not None:
                self.validator.save_dir = self.save_dir
                what = self.best if self.args.save else "the last network (save=False keeps no other)"
                fresh = str(self.args.model).endswith((".yaml", ".yml")) and not isinstance(self.args.pretrained, str)
                lines = final_report(self.validator, len(self.data.val), self.ema.updates, fresh=fresh)
                LOGGER.info(f"Measured with {what}:\n{lines}")
            self._emit("on_fit_epoch_end")
        self._folder.draw_results()
        if self.args.save:
            self._folder.close_last()
        LOGGER.info(f"Results saved to {self.save_dir}")
        self._emit("on_train_end")
        self._emit("teardown")

    # -- within a line of it --------------------------------------------------------------------

    def _samples(self) -> Iterator[TrainBatch]:
        left = self.epochs - self.epoch
        if left == self.args.close_mosaic and self.args.mosaic and self.epoch:
            LOGGER.info(f"The last {left} epochs go without mosaic (close_mosaic).")
        return self._batches.epoch(self.epoch, mosaic=left > self.args.close_mosaic, first=self._first)

    @property
    def _where(self) -> str:
        return f"epoch {self.epoch + 1}, batch {self.batch_i + 1}"

    def _measure(self, network: PoseModel, save_dir: Path | None = None) -> None:
        criterion, callbacks, check = self._learner.criterion, self.callbacks, self._group.check
        found = measure(
            network, self.data, self.args, criterion, self.device, callbacks=callbacks, save_dir=save_dir, check=check
        )
        self.metrics, self.validator, self.fitness = found.numbers(), found.metrics, found.fitness

    def _keep_to_time(self, done: int) -> None:
        """With a time limit the number of epochs follows from how long they take."""
        if self.args.time:
            fit = max(math.floor(self.args.time * 3600 * done / self._elapsed()), done)
            self.epochs = fit
            self._learner.schedule = self._learner.schedule.with_epochs(fit)

    def _line(self) -> EpochLine:
        left = len(self._batches) - self._first
        shown = {"enabled": self.args.verbose, "head": self._heads}
        return EpochLine(self.epoch + 1, self.epochs, left, names=self.loss_names, **shown)

    def _say(self) -> None:
        """Log what the epoch came to, and how long the rest will take."""
        done = self.epoch + 1
        left = 0.0 if self.stop else self._elapsed() / done * (self.epochs - done)
        measured, imgs = (self.validator, len(self.data.val or ())) if self.metrics else (None, 0)
        if words := epoch_summary(measured, imgs, left, head=self._heads):
            LOGGER.info(words)

    @property
    def _heads(self) -> bool:
        """Whether head lines stand above the lines of this epoch: once a screen is enough."""
        return (self.epoch - self.start_epoch) % HEADER_EVERY == 0

    # -- going on after an interruption ---------------------------------------------------------

    def state_dict(self, epoch: int, batch: int) -> dict[str, Any]:
        """Return all that a run needs to go on, but for the average's weights.

        Args:
            epoch: the epoch to go on with, from 0.
            batch: the batch of it to go on with, from 0.
        """
        return {
            "epoch": epoch,
            "batch": batch,
            "epochs": self.epochs,
            "batches": len(self._batches),
            "seconds": self._elapsed(),
            "fitness": self.fitness,
            "best_fitness": self.best_fitness,
            "best_epoch": self.best_epoch,
            "stop": self.stop,
            "license": self._folder.license,
            "plan": self.plan.state_dict(),
            "sum": self._tally.sum,
            **self._learner.state_dict(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        if state["batches"] != len(self._batches):
            raise TrainError(
                f"The run was interrupted with {state['batches']} batches an epoch, and its data now makes "
                f"{len(self._batches)}: the data set has changed. Put it back, or begin a new run from its weights "
                "(model=last.pt without resume)."
            )
        self._learner.load_state_dict(state)
        self.epoch = self.start_epoch = state["epoch"]
        self._first, self.epochs = state["batch"], state["epochs"]
        self._learner.schedule = self._learner.schedule.with_epochs(self.epochs)
        self.fitness, self.best_fitness, self.best_epoch = state["fitness"], state["best_fitness"], state["best_epoch"]
        self._seconds, self._tally.sum = state["seconds"], state["sum"].to(self.device)
        self.stop = bool(state.get("stop")) or (self.epoch > 0 and self._out_of_patience(self.epoch - 1))
        self._folder.go_on(self.epoch)

    def _leave(self, batch: int) -> None:
        """End an interrupted run before a batch of the epoch in work.

        Raises:
            KeyboardInterrupt: always.
        """
        where = f"before batch {batch + 1} of epoch {self.epoch + 1}"
        if not self.args.save:
            raise KeyboardInterrupt(f"Interrupted {where}. Nothing was kept (save=False).")
        self._folder.save_running(self.ema.model, self.epoch, self.state_dict(self.epoch, batch))
        raise KeyboardInterrupt(f"Interrupted {where}. All is kept; go on with: {self._folder.way_back}")

    @property
    def _columns(self) -> tuple[str, ...]:
        return results_columns(self._learner.criterion.terms, len(self.optimizer.param_groups))

    # -- small things ---------------------------------------------------------------------------

    def _emit(self, event: str) -> None:
        self.callbacks.emit(event, self)
        self._logs.emit(event, self)

    def _elapsed(self) -> float:
        """Seconds of training, those before an interruption too."""
        return self._seconds + time.monotonic() - self._clock
