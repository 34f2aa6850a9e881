"""The training loop.

    for each epoch:
        for each batch:
            set the learning rates, compute losses and gradients, step when enough gradients are accumulated
        validate the averaged network, append a row to results.csv, write best.pt (on a new best) and last.pt
    validate best.pt

`TrainState` implements the operations of one batch, `RunFolder` the files, `NanGuard` the recovery from divergence.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import DataError, TrainError
from yolopose.base.log import LOGGER
from yolopose.base.progress import format_duration
from yolopose.config import TrainSettings, adjustable
from yolopose.data import Annotations
from yolopose.evaluate import PoseMetrics
from yolopose.nn import PoseModel
from yolopose.train.compute_config import ComputeConfig, default_config
from yolopose.train.data import TrainData
from yolopose.train.distributed import ProcessGroup, RankLost
from yolopose.train.feed import MixedBatches, TrainBatch, TrainBatches
from yolopose.train.nan_guard import Diverged, NanGuard
from yolopose.train.optimizer import resolved_batch
from yolopose.train.process import InterruptHandler, deterministic_kernels
from yolopose.train.pseudo_labels import pseudo_batch
from yolopose.train.record import HEADER_EVERY, EpochLine, epoch_summary, final_report, results_columns
from yolopose.train.run_folder import NullRunFolder, RunFolder
from yolopose.train.scalars import LossMeter
from yolopose.train.schedule import step_due
from yolopose.train.state import TrainState
from yolopose.train.time_budget import make_budget
from yolopose.train.validation import validate_epoch


class Trainer:
    """One training run; callbacks receive this object.

    Args:
        network: initial network, built for the data; it is trained in place.
        data: training and validation data.
        settings: resolved settings.
        device: where to compute.
        save_dir: the run folder, which exists.
        callbacks: functions by event.
        loggers: further callbacks, which write logs.
        license_: license of the initial weights.
        seconds: of training before the first epoch, which count for the time limit.
        state: `state_dict` of an interrupted run to resume; the network then holds its EMA.
        group: the processes that train together, each with its own Trainer; a single one by default. Rank 0 validates,
            writes, logs and calls callbacks, and its decisions apply to all.
        compute_config: threads, precision, memory format and workers; by default those of `default_config`.

    Attributes:
        args: the settings.
        compute_config: threads, precision, memory format and workers in use.
        data: the data.
        device: where it computes.
        model: the network in training.
        ema: its moving average, which is validated and saved; `ema.model` is a network.
        optimizer: torch's optimizer.
        epoch: the current epoch, from 0; after training the last completed one.
        epochs: number of epochs.
        batch_i: the current batch, from 0 in each epoch.
        batch_size: images per batch, over all processes.
        loss: total loss of the last batch.
        loss_items: (T,) terms of the last batch, in the order of `loss_names`.
        loss_names: `box_loss`, `pose_loss`, `kobj_loss`, `cls_loss`, `dfl_loss`; with the head of YOLO26 `l1_loss`
            and `rle_loss` instead of the last; with `distill_model` also `dis_feature_loss` and `dis_output_loss`.
        metrics: `metrics/…` and `val/…` of the last validation.
        validator: `PoseMetrics` of the last validation.
        fitness: box mAP50-95 + pose mAP50-95 of the last validation.
        best_fitness: the best so far.
        best_epoch: the epoch of `best.pt`, from 0; -1 for the initial weights.
        stop: set it to True in a callback to end the run after this epoch.
        save_dir, wdir, last, best, csv: paths of the run's files.
    """

    def __init__(
        self,
        network: PoseModel,
        data: TrainData,
        settings: TrainSettings,
        device: torch.device,
        save_dir: Path,
        *,
        callbacks: Callbacks | None = None,
        loggers: Callbacks | None = None,
        license_: str = "",
        seconds: float = 0.0,
        state: Mapping[str, Any] | None = None,
        group: ProcessGroup | None = None,
        compute_config: ComputeConfig | None = None,
    ) -> None:
        settings = adjustable(settings)  # callbacks may change `trainer.args`
        self.args = settings
        self.data = data
        self.device = device
        self.callbacks = callbacks or Callbacks()
        self.compute_config = compute_config or default_config(settings, device)
        self.batch_size = resolved_batch(settings)
        self._loggers = loggers or Callbacks()
        self._group = group or ProcessGroup()
        resolved = self.compute_config.resolve(settings)
        self._batches = self._make_batches(resolved, max(network.stride))
        self._state = TrainState(network, data, resolved, device, len(self._batches), self._group)
        self.model = self._state.model
        self.ema = self._state.ema
        self.optimizer = self._state.optimizer.torch
        self._guard = NanGuard(self._state)
        self._meter = LossMeter(self._state.terms, device)
        self.loss_names = self._meter.names
        terms = self._state.criterion.terms
        states = data.spec.keypoints.visibility
        columns = results_columns(terms, len(self.optimizer.param_groups), states, self._state.terms[len(terms) :])
        folder_type = RunFolder if self._group.is_main else NullRunFolder
        self._folder = folder_type(save_dir, settings, data, license_, columns)
        self.save_dir = save_dir
        self.wdir = self._folder.wdir
        self.last = self._folder.last
        self.best = self._folder.best
        self.csv = self._folder.csv
        self.epoch = self.start_epoch = self.batch_i = self.best_epoch = 0
        self.epochs = settings.epochs
        self.loss = torch.zeros(())
        self.loss_items = self.tloss
        self.metrics: dict[str, float] = {}
        self.validator: PoseMetrics | None = None
        self.fitness = self.best_fitness = 0.0
        self.stop = False
        self._patience_start = -1  # epoch from which patience counts, where the run was given more epochs
        self._first_batch = 0  # of the current epoch; above 0 only after an interruption within an epoch
        self._interrupt = InterruptHandler(forwarded=self._group.size > 1)
        self._budget = make_budget(settings, len(self._batches), len(data.val or ()))
        self._seconds = seconds  # of training before the first epoch, or before an interruption
        self._start_time = time.monotonic()
        if state is not None:
            self._restore(state)

    def _make_batches(self, settings: TrainSettings, stride: int) -> TrainBatches | MixedBatches:
        on_gpu = self.device.type == "cuda"

        def make(table: Annotations, batch: int) -> TrainBatches:
            return TrainBatches(
                table,
                self.data.spec,
                settings,
                imgsz=settings.imgsz,
                batch=batch,
                stride=stride,
                workers=min(self.compute_config.workers, self._group.max_workers),
                pin_memory=on_gpu,
                share=(self._group.rank, self._group.size),
                render_on=self.device if on_gpu else None,
            )

        labeled = make(self.data.train, self.batch_size)
        if self.data.pseudo is None:
            return labeled
        return MixedBatches(labeled, make(self.data.pseudo, pseudo_batch(self.batch_size, settings, self.data)))

    @property
    def tloss(self) -> Tensor:
        """(T,) means of the loss terms over the epoch so far, in the order of `loss_names`."""
        return self._meter.mean

    # -- the loop -------------------------------------------------------------------------------

    def train(self) -> PoseMetrics | None:
        """Train, and validate the best network.

        Returns:
            The metrics of `best.pt`; None when the data has no validation images, and in processes other than rank 0.

        Raises:
            TrainError: training diverges, or another process of the training is lost.
            DataError: an image cannot be read any more, or a worker process died.
            OutputError: a file cannot be written.
            KeyboardInterrupt: the run was interrupted; `last.pt` holds everything that `resume` needs.
        """
        with self.compute_config.apply():
            self._begin()
            self._train_epochs()
            self._finish()
        return self.validator

    def _train_epochs(self) -> None:
        kernels = deterministic_kernels(self.device, self.args.deterministic)
        try:
            with self._interrupt.installed(), self._batches.reraise_worker_errors(), kernels:
                while self.epoch < self.epochs and not self.stop:
                    self._emit("on_train_epoch_start")
                    try:
                        self._train_epoch()
                    except Diverged as reason:
                        # Repeat the epoch from the snapshot, with half the learning rates.
                        self._meter.sum = self._guard.rollback(reason)
                        continue
                    self._end_epoch()
        except (DataError, RankLost) as error:
            if not self.args.save:
                raise
            raise type(error)(
                f"{error} All completed epochs are saved; resume with: {self._folder.resume_command}"
            ) from error
        finally:
            self._batches.close()
        self.epoch -= 1  # callbacks after the loop read the last completed epoch

    def _train_epoch(self) -> None:
        """Train on the batches of an epoch.

        Raises:
            Diverged: the weights have diverged.
        """
        state = self._state
        state.begin_epoch(self.epoch, self.epochs)
        self._guard.snapshot(self._meter.sum)
        with self._progress() as progress:
            for number, batch in enumerate(self._epoch_batches(), self._first_batch):
                self.batch_i = number
                self._emit("on_train_batch_start")
                i = self.epoch * len(self._batches) + number  # over the whole run
                # During warm-up, learning rate, momentum and accumulation change with every batch.
                accumulation = state.schedule.apply(self.optimizer, i)
                step_follows = step_due(i, state.last_step, accumulation)
                terms = state.forward_backward(batch, self.epoch, number, step_follows=step_follows)
                self._guard.record("loss", torch.isfinite(terms.total), self._position)
                if step_follows:
                    self._emit("optimizer_step")
                    self._guard.record("gradient", state.step(i), self._position)
                    self._emit("on_params_update")
                    self._emit("on_before_zero_grad")
                self.loss = terms.total.detach()
                self.loss_items = terms.values
                self._meter.add(terms, number + 1, last=number + 1 == len(self._batches))
                self._budget.batch_done()
                out_of_time = self._group.is_main and self._budget.is_spent(self._elapsed())
                instances, images, interrupted, out_of_time = self._group.all_reduce_scalars(
                    len(batch.classes), len(batch), self._interrupt.requested, out_of_time
                )
                progress.update(self._meter.displayed, int(instances), tuple(batch.images.shape[2:]), int(images))
                self._folder.draw_batch(batch, self.epoch, number)
                self._emit("on_train_batch_end")
                # After the last batch of an epoch, the epoch is completed first.
                if interrupted and number + 1 < len(self._batches) and state.can_checkpoint(i):
                    self._save_and_exit(number + 1)
                if out_of_time and number + 1 < len(self._batches):
                    LOGGER.info(f"The time limit ends epoch {self.epoch + 1} after {number + 1} batches.")
                    self.stop = True
                    break
        self._guard.check_weights(self._position)
        self._first_batch = 0

    def _end_epoch(self) -> None:
        """Validate and save the epoch in rank 0, and apply its decisions in all processes."""
        self._emit("on_train_epoch_end")
        # Only rank 0 saves its state, so it takes over the gradients of all processes that wait for a step.
        self._state.collect_gradients()
        self._meter.start_epoch()
        if self._group.is_main:
            self.metrics = {}  # without validation an epoch has no metrics, not those of an earlier one
            if self.args.val:
                self._validate(self.ema.model)
                self._budget.validation_done()
            self._save_epoch()
            self._log_epoch()
            self._emit("on_fit_epoch_end")
        self._budget.epoch_done()
        interrupted = self._sync_decisions()
        self.epoch += 1
        if interrupted and self.epoch < self.epochs and not self.stop:
            self._save_and_exit(0)

    def _save_epoch(self) -> None:
        """Write the row and weights of the epoch, and decide whether to continue."""
        completed = self.epoch + 1
        # Without validation the newest weights count as the best.
        first = completed == 1 and self.best_epoch >= 0
        is_best = first or not self.args.val or self.fitness > self.best_fitness
        if is_best:
            self.best_fitness = self.fitness
            self.best_epoch = self.epoch
        rates = {f"lr/pg{index}": group["lr"] for index, group in enumerate(self.optimizer.param_groups)}
        losses = {f"train/{name}": value for name, value in self._meter.to_dict().items()}
        row = {"epoch": completed, "time": self._elapsed(), **losses, **self.metrics, **rates}
        if self.args.time:  # the number of epochs follows from their duration
            self._set_epochs(self._budget.epochs(completed, self._elapsed()))
        state = self.state_dict(completed, 0)
        saved = self._folder.add_epoch(row, self.ema.model, completed, self.metrics, state, is_best=is_best)
        if self._out_of_patience(self.epoch):
            LOGGER.info(
                f"Stopping: no improvement in {self.args.patience} epochs (patience). The best is {self._best_name}."
            )
            self.stop = True
        if self.args.save and saved:
            self._emit("on_model_save")

    def _sync_decisions(self) -> bool:
        """Take over from rank 0 the number of epochs and `stop`; return whether the run was interrupted."""
        epochs, stop, interrupted = self._group.broadcast_scalars(self.epochs, self.stop, self._interrupt.requested)
        self.stop = bool(stop)
        if epochs != self.epochs:
            self._set_epochs(int(epochs))
        return bool(interrupted)

    def _set_epochs(self, epochs: int) -> None:
        self.epochs = epochs
        self._state.schedule = self._state.schedule.with_epochs(epochs)

    def _out_of_patience(self, epoch: int) -> bool:
        return bool(self.args.patience) and epoch - max(self.best_epoch, self._patience_start) >= self.args.patience

    # -- before and after the loop --------------------------------------------------------------

    def _begin(self) -> None:
        self._emit("on_pretrain_routine_start")
        length = f"epochs {self.start_epoch + 1}…{self.epochs}"
        if self.args.time:
            length = f"for {format_duration(self.args.time * 3600)}, with validation and files"
        resumed = self.start_epoch > 0 or self._first_batch > 0
        opening = time.monotonic()
        self._folder.open(self.ema.model, self.state_dict(self.epoch, self._first_batch), resumed=resumed)
        opening = 0.0 if resumed else time.monotonic() - opening
        if self.epoch >= self.epochs or self.stop:
            LOGGER.info("All epochs of this run are completed; only the validation of the best network remains.")
        others = f" and {self._group.size - 1} more" if self._group.size > 1 else ""
        val = f", {len(self.data.val)} for validation" if self.data.val is not None else ""
        LOGGER.info(
            f"Training on {self.device}{others} in {self._state.precision}: {self.data.describe(self.args.fraction)}"
            f"{val}, {len(self._batches)} batches of up to {self.batch_size}, imgsz {self.args.imgsz}, "
            f"{length}. {self._state.optimizer}. Run folder: {self.save_dir}"
        )
        self._emit("on_pretrain_routine_end")
        LOGGER.info(f"Compute: {self.compute_config}.")
        if self._state.distiller is not None:
            LOGGER.info(f"Distillation from the {self._state.distiller}.")
        self._start_time = time.monotonic()
        self._budget.start(opening)
        self._emit("on_train_start")
        if self.args.val_initial and self.args.val and not resumed and self._group.is_main:
            self._validate_initial()
        self._sync_decisions()

    def _validate_initial(self) -> None:
        """Validate the initial weights and make them best.pt, so that training cannot end with something worse."""
        self._validate(self.ema.model)
        self._budget.validation_done()
        self._budget.start()  # the validation must not count as a part of the first batch
        self.best_fitness = self.fitness
        self.best_epoch = -1
        self._folder.add_initial(self.ema.model, self.metrics)
        box, pose = (self.metrics[f"metrics/mAP50-95({kind})"] for kind in "BP")
        LOGGER.info(
            f"The initial weights have box mAP50-95 {box:.3f} and pose mAP50-95 {pose:.3f}: they are best.pt until an "
            "epoch is better."
        )

    def _finish(self) -> None:
        """Validate the best network, draw the curves and reduce the checkpoints to their weights."""
        if not self._group.is_main:
            self.ema.model.load_state_dict(self._group.broadcast_object())
            return
        completed = self.epoch + 1
        best = f" The best is {self._best_name}." if self.args.val else ""
        epochs = f"{completed} {'epoch' if completed == 1 else 'epochs'}"
        LOGGER.info(f"{epochs} completed in {format_duration(self._elapsed())}.{best}")
        self._folder.retry_failed(self.ema.model, completed, self.state_dict(completed, 0), stopped=self.stop)
        network = self._folder.strip_best() if self.args.save else self.ema.model
        self._group.broadcast_object(network.state_dict())
        if self.data.val is not None:
            self._validate(network, self.save_dir if self.args.plots or self.args.save_json else None)
            self._log_final_report(len(self.data.val))
            self._emit("on_fit_epoch_end")
        self._folder.draw_results()
        self._batches.damaged.log_summary()
        if self.args.save and self.args.keep_state:
            LOGGER.info(f"More epochs, with the same optimizer: {self._folder.resume_command} epochs=N")
        elif self.args.save:
            self._folder.strip_last()  # from here on the run cannot be resumed
        LOGGER.info(f"Results saved to {self.save_dir}")
        self._emit("on_train_end")
        self._emit("teardown")

    # -- parts of an epoch ----------------------------------------------------------------------

    def _epoch_batches(self) -> Iterator[TrainBatch]:
        remaining = self.epochs - self.epoch
        used = [name for name in ("mosaic", "mixup", "cutmix") if getattr(self.args, name)]
        if remaining == self.args.close_mosaic and used and self.epoch:
            last = "The last epoch runs" if remaining == 1 else f"The last {remaining} epochs run"
            LOGGER.info(f"{last} without {', '.join(used)} (close_mosaic={remaining}).")
        return self._batches.epoch(self.epoch, multi_image=remaining > self.args.close_mosaic, first=self._first_batch)

    def _validate(self, network: PoseModel, save_dir: Path | None = None) -> None:
        result = validate_epoch(
            network,
            self.data,
            self.args,
            self._state.criterion,
            self.device,
            callbacks=self.callbacks,
            save_dir=save_dir,
            check=self._group.check,
        )
        self.metrics = result.to_dict()
        self.validator = result.metrics
        self.fitness = result.fitness

    @property
    def _best_name(self) -> str:
        return "the initial weights" if self.best_epoch < 0 else f"epoch {self.best_epoch + 1}"

    @property
    def _position(self) -> str:
        return f"epoch {self.epoch + 1}, batch {self.batch_i + 1}"

    @property
    def _show_headers(self) -> bool:
        """Whether header lines precede the lines of this epoch."""
        return (self.epoch - self.start_epoch) % HEADER_EVERY == 0

    def _progress(self) -> EpochLine:
        return EpochLine(
            self.epoch + 1,
            self.epochs,
            len(self._batches) - self._first_batch,
            enabled=self.args.verbose,
            header=self._show_headers,
            losses=self.loss_names,
            time_left=None if self.args.val else self._seconds_left,
        )

    def _log_epoch(self) -> None:
        if self.metrics and self.validator is not None:
            images = len(self.data.val or ())
            LOGGER.info(epoch_summary(self.validator, images, self._seconds_left(), header=self._show_headers))

    def _seconds_left(self) -> float:
        completed = self.epoch + 1
        return 0.0 if self.stop else self._elapsed() / completed * (self.epochs - completed)

    def _log_final_report(self, images: int) -> None:
        if self.validator is None:
            return
        self.validator.save_dir = self.save_dir
        source = self.best if self.args.save else "the last network (save=False)"
        fresh = str(self.args.model).endswith((".yaml", ".yml")) and not isinstance(self.args.pretrained, str)
        report = final_report(self.validator, images, self.ema.updates, fresh=fresh)
        LOGGER.info(f"Validated {source}:\n{report}")

    def _emit(self, event: str) -> None:
        self.callbacks.emit(event, self)
        self._loggers.emit(event, self)

    def _elapsed(self) -> float:
        """Seconds of training, including those before an interruption."""
        return self._seconds + time.monotonic() - self._start_time

    # -- checkpoints ----------------------------------------------------------------------------

    def state_dict(self, epoch: int, batch: int) -> dict[str, Any]:
        """Return everything that a resumed run needs, except for the EMA's weights.

        Args:
            epoch: the epoch to resume with, from 0.
            batch: the batch of that epoch to resume with, from 0.
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
            "patience_start": self._patience_start,
            "license": self._folder.license,
            # key name of the checkpoint format; it differs from that of the attribute
            "plan": self.compute_config.state_dict(),
            "sum": self._meter.sum,
            **self._state.state_dict(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        if state["batches"] != len(self._batches):
            raise TrainError(
                f"The run was interrupted with {state['batches']} batches per epoch, and its data now has "
                f"{len(self._batches)}: the data set has changed. Restore it, or begin a new run from its weights "
                "(model=last.pt without resume)."
            )
        self._state.load_state_dict(state)
        self.epoch = self.start_epoch = state["epoch"]
        self._first_batch = state["batch"]
        self._set_epochs(state["epochs"])
        self.fitness = state["fitness"]
        self.best_fitness = state["best_fitness"]
        self.best_epoch = state["best_epoch"]
        self._patience_start = state.get("patience_start", -1)
        self._seconds = state["seconds"]
        self._meter.sum = state["sum"].to(self.device)
        # The state of an epoch is written before patience is checked.
        self.stop = bool(state.get("stop")) or (self.epoch > 0 and self._out_of_patience(self.epoch - 1))
        self._folder.read_history(self.epoch)

    def _save_and_exit(self, batch: int) -> NoReturn:
        """End an interrupted run before a batch of the current epoch.

        Raises:
            KeyboardInterrupt: always.
        """
        where = f"before batch {batch + 1} of epoch {self.epoch + 1}"
        if not self.args.save:
            raise KeyboardInterrupt(f"Interrupted {where}. Nothing was saved (save=False).")
        self._folder.save_last(self.ema.model, self.epoch, self.state_dict(self.epoch, batch))
        raise KeyboardInterrupt(f"Interrupted {where}. The state is saved; resume with: {self._folder.resume_command}")
