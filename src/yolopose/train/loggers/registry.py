"""Which logs a run writes, and the listeners that write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import DependencyError, UsageError, did_you_mean
from yolopose.base.log import LOGGER, warn_once
from yolopose.base.settings import Settings
from yolopose.train.checkpoint import options_dict

NAMES = ("tensorboard", "wandb", "mlflow", "trackio")
"""Names of the logs: those of their libraries, of their settings, and of the files beside this one."""


class Log(Protocol):
    """An open log of one run."""

    def write(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of an epoch, counted from 1, by their columns in results.csv."""
        ...

    def close(self) -> None:
        """End it."""
        ...


def select_loggers(loggers: str | Sequence[Any] | None, settings: Settings) -> list[str]:
    """Return the names of the logs to write.

    Args:
        loggers: the option; its names must be installed. Left out, the settings say which.
        settings: those in force; what they name and is not installed gets a note.

    Raises:
        UsageError: there is no such log.
        DependencyError: it is not installed.
    """
    if loggers is None:
        wanted = [name for name in NAMES if getattr(settings, name).lower() in ("true", "1", "yes")]
        for name in wanted:
            if not _installed(name):
                warn_once(f"The setting {name}=true is without effect: {_how(name)}")
        return [name for name in wanted if _installed(name)]
    words = loggers.split(",") if isinstance(loggers, str) else [str(word) for word in loggers]
    found = [word.strip().lower() for word in words if word.strip()]
    for name in found:
        if name not in NAMES:
            raise UsageError(f"There is no logger {name!r}.{did_you_mean(name, NAMES)} There are: {', '.join(NAMES)}.")
        if not _installed(name):
            raise DependencyError(f"loggers={name}: {_how(name)}")
    return list(dict.fromkeys(found))


def open_loggers(names: Sequence[str]) -> Logs:
    """Return listeners that open, write and close the logs of a run."""
    return Logs({name: import_module(f"yolopose.train.loggers.{name}").start for name in names})


class Logs(Callbacks):
    """Listeners for the events of a training. A log that fails is said and left; the training goes on.

    Args:
        kinds: for each name the function that opens the log of a trainer.
    """

    def __init__(self, kinds: Mapping[str, Callable[[Any], Log]]) -> None:
        super().__init__()
        self._kinds = kinds
        self._open: dict[str, Log] = {}
        self._written = 0
        if kinds:
            self.add("on_train_start", self._start)
            self.add("on_fit_epoch_end", self._write)
            self.add("on_train_end", self._close)

    def _start(self, trainer: Any) -> None:
        self._written = trainer.epoch
        for name, start in self._kinds.items():
            self._try(name, lambda name=name, start=start: self._open.update({name: start(trainer)}))

    def _write(self, trainer: Any) -> None:
        epoch = trainer.epoch + 1
        if epoch <= self._written:  # the last validation, of best.pt, belongs to no new epoch
            return
        self._written = epoch
        numbers = numbers_of(trainer)
        for name, log in list(self._open.items()):
            self._try(name, lambda log=log: log.write(epoch, numbers))

    def _close(self, trainer: Any) -> None:
        for name, log in list(self._open.items()):
            self._try(name, log.close)
        self._open.clear()

    def _try(self, name: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # whatever a foreign library raises, it must not cost the training
            self._open.pop(name, None)
            LOGGER.warning(f"The logger {name} failed and is left ({type(error).__name__}: {error}). Training goes on.")


def numbers_of(trainer: Any) -> dict[str, float]:
    """Return losses, metrics and learning rates of the epoch in work, by their columns in results.csv."""
    losses = {f"train/{name}": float(value) for name, value in zip(trainer.loss_names, trainer.tloss, strict=True)}
    rates = {f"lr/pg{index}": float(group["lr"]) for index, group in enumerate(trainer.optimizer.param_groups)}
    return {**losses, **trainer.metrics, **rates}


def arguments_of(trainer: Any) -> dict[str, Any]:
    """Return the options of the run."""
    return options_dict(trainer.args)


def project_of(trainer: Any) -> str:
    """Return the name under which the runs of a project stand together: that of the folder around the run's."""
    return str(trainer.save_dir.resolve().parent.name) or "yolopose"


def _installed(name: str) -> bool:
    return find_spec(name) is not None


def _how(name: str) -> str:
    return f"it is not installed. `pip install {name}` does that."
