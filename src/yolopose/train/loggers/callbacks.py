"""Selection of loggers, and the callbacks that write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import DependencyError, UsageError, did_you_mean
from yolopose.base.log import LOGGER, warn_once
from yolopose.base.settings import Settings
from yolopose.train.loggers.backends import LOGGERS, RunLogger


def select_loggers(loggers: str | Sequence[Any] | None, settings: Settings) -> list[str]:
    """Return the names of the loggers of a run.

    Args:
        loggers: the option; its loggers must be installed. If None, the settings decide.
        settings: user settings; loggers named there that are not installed are skipped with a warning.

    Raises:
        UsageError: unknown logger.
        DependencyError: its library is not installed.
    """
    if loggers is None:
        enabled = [name for name in LOGGERS if getattr(settings, name).lower() in ("true", "1", "yes", "on")]
        for name in enabled:
            if not _is_installed(name):
                warn_once(f"The setting {name}=true has no effect: {_install_hint(name)}")
        return [name for name in enabled if _is_installed(name)]
    items = loggers.split(",") if isinstance(loggers, str) else [str(item) for item in loggers]
    names = [item.strip().lower() for item in items if item.strip()]
    for name in names:
        if name not in LOGGERS:
            raise UsageError(
                f"Unknown logger {name!r}.{did_you_mean(name, LOGGERS)} Choose from: {', '.join(LOGGERS)}."
            )
        if not _is_installed(name):
            raise DependencyError(f"loggers={name}: {_install_hint(name)}")
    return list(dict.fromkeys(names))


def open_loggers(names: Sequence[str]) -> LoggerCallbacks:
    """Return callbacks that open, write and close the loggers of a run."""
    return LoggerCallbacks({name: LOGGERS[name] for name in names})


class LoggerCallbacks(Callbacks):
    """Callbacks of a training run. A logger that fails is closed with a warning; the training continues.

    Args:
        factories: for each name the function that opens the logger of a trainer.
    """

    def __init__(self, factories: Mapping[str, Callable[[Any], RunLogger]]) -> None:
        super().__init__()
        self._factories = factories
        self._open: dict[str, RunLogger] = {}
        self._last_epoch = 0
        if factories:
            self.add("on_train_start", self._start)
            self.add("on_fit_epoch_end", self._write)
            self.add("on_train_end", self._close)

    def _start(self, trainer: Any) -> None:
        self._last_epoch = trainer.epoch
        for name, factory in self._factories.items():
            self._guard(name, lambda name=name, factory=factory: self._open.update({name: factory(trainer)}))

    def _write(self, trainer: Any) -> None:
        epoch = trainer.epoch + 1
        if epoch <= self._last_epoch:  # the final validation of best.pt does not belong to a new epoch
            return
        self._last_epoch = epoch
        values = epoch_values(trainer)
        for name, logger in list(self._open.items()):
            self._guard(name, lambda logger=logger: logger.write(epoch, values))

    def _close(self, trainer: Any) -> None:
        for name, logger in list(self._open.items()):
            self._guard(name, logger.close)
        self._open.clear()

    def _guard(self, name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # no error of a third-party library may end the training
            self._open.pop(name, None)
            LOGGER.warning(
                f"The logger {name} failed and is closed ({type(error).__name__}: {error}). The training continues."
            )


def epoch_values(trainer: Any) -> dict[str, float]:
    """Return losses, metrics and learning rates of the current epoch, by their columns in results.csv."""
    losses = {f"train/{name}": float(value) for name, value in zip(trainer.loss_names, trainer.tloss, strict=True)}
    rates = {f"lr/pg{index}": float(group["lr"]) for index, group in enumerate(trainer.optimizer.param_groups)}
    return {**losses, **trainer.metrics, **rates}


def _is_installed(name: str) -> bool:
    return find_spec(name) is not None


def _install_hint(name: str) -> str:
    return f"it is not installed. Install it with `pip install {name}`."
