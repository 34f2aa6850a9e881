"""What a `YOLO` object holds: the opened network or file, its weights, callbacks and engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import UsageError
from yolopose.base.log import LOGGER, quiet
from yolopose.config import CheckedOptions, PredictOptions, ValOptions, check_options
from yolopose.config.unsupported import MISSING_ATTRIBUTES
from yolopose.formats import describe_suffixes, find_format, require_engine, require_packages
from yolopose.model.defaults import REMEMBERED, CallDefaults
from yolopose.model.foreign_models import describe_foreign, foreign_path, open_foreign_file
from yolopose.model.hub import complete_suffix, find_weights, is_url, refuse_data_yaml, suggest_model
from yolopose.model.module import MODULE_METHODS, Device, ModuleMixin
from yolopose.model.runtimes import (
    RuntimeCache,
    RuntimeConfig,
    open_exported,
    runtime_config,
    runtime_for_network,
)
from yolopose.schema import ConfidenceScale, ModelMetadata, PoseSpec

if TYPE_CHECKING:
    from typing_extensions import Self

    from yolopose.evaluate import PoseMetrics
    from yolopose.nn import ModelInfo, PoseModel
    from yolopose.runtime import Runtime
    from yolopose.track import StreamTrackers
    from yolopose.train import Trainer
    from yolopose.weights import Checkpoint

_YAML = (".yaml", ".yml")


class MissingFeatureError(UsageError, AttributeError):
    """An attribute of the reference package that yolopose does not have."""


class ModelBase(ModuleMixin):
    """A network or exported file, without the modes; see `YOLO`.

    Attributes:
        task: `pose`.
        model_name: the path or name that was opened; after training the best weights.
        ckpt: the content of the weights file, or None.
        overrides: defaults of later calls; values that the user sets there are used by all modes that have the option.
        metrics: metrics of the last validation or training.
        trainer: the last training run.
        tracker: the trackers of the last `track`.
        callbacks: functions by event.
    """

    def __init__(
        self, model: str | Path | ModelBase = "yolo11n-pose.pt", task: str | None = None, verbose: bool = False
    ) -> None:
        if task not in (None, "pose"):
            raise UsageError(f"task={task!r}: yolopose estimates poses only; omit `task` or give 'pose'.")
        if isinstance(model, ModelBase):
            self.__dict__ = model.__dict__
            return
        if not isinstance(cast(object, model), str | Path):
            raise UsageError(f"model={model!r} is not a path: give a weights file, a model YAML or an exported file.")
        model = model if is_url(model) else complete_suffix(Path(model))
        self.task = "pose"
        self.model_name = str(model)
        self.ckpt: Checkpoint | None = None
        self.overrides: dict[str, Any] = {"model": self.model_name, "task": self.task}
        self._placement: dict[str, Any] = {}  # `device` and `half` of later calls, set by `to` and the others
        self._defaults = CallDefaults(self.overrides, self._placement)
        self.metrics: PoseMetrics | None = None
        self.trainer: Trainer | None = None
        self.tracker: StreamTrackers | None = None
        self.callbacks = Callbacks()
        self._untrained = Path(model).suffix.lower() in _YAML  # training then initializes the weights
        self._runtimes = RuntimeCache()
        self._exported: Path | None = None
        self._foreign = False  # whether that is a network of another package
        self._network: PoseModel | None = None
        self._open(find_weights(model) if is_url(model) else Path(model), verbose)

    def _open(self, path: Path, verbose: bool) -> None:
        if (foreign := foreign_path(path)) is not None:
            self._open_exported(foreign, is_foreign=True)
            return
        suffix = path.suffix.lower()
        if suffix in _YAML:
            require_packages(("torch",), str(path))
            refuse_data_yaml(path)
            from yolopose.nn import build_network

            self._network = build_network(path)
            if verbose:
                self._network.info()
            return
        file_format = find_format(path)
        if file_format is None:
            raise UsageError(
                f"model={str(path)!r} is neither a model YAML ({', '.join(_YAML)}) nor a network file; "
                f"{describe_suffixes()}{suggest_model(path)}"
            )
        require_engine(file_format, path)
        file = find_weights(path)
        if not file_format.info.weights:
            self._open_exported(file)
            return
        from yolopose.weights import load_network

        self._network, self.ckpt = load_network(file)
        args = self.ckpt.train_args
        self._defaults.remember({key: args[key] for key in REMEMBERED["val"] if args.get(key) is not None})

    def _open_exported(self, file: Path, *, is_foreign: bool = False) -> None:
        self._exported = file
        self._foreign = is_foreign
        metadata = self._runtime().metadata  # report a damaged file now, not at the first prediction
        self._foreign = metadata.native_size
        self._defaults.remember({"imgsz": list(metadata.imgsz)})

    def __getstate__(self) -> dict[str, Any]:
        """Pickle and copy an exported file as its path; engines are opened again, and a finished trainer is dropped."""
        exported = None if self._exported is None else self._exported.absolute()
        return {**self.__dict__, "_exported": exported, "trainer": None}

    # -- properties ------------------------------------------------------------------------------

    @property
    def model(self) -> PoseModel:
        """The network as a torch module.

        Raises:
            UsageError: the object holds an exported file, or a network of another package.
        """
        self._require_own()
        if self._network is None:
            raise UsageError(
                f"{self.model_name} is an exported file: it can predict and validate, but not be trained, exported or "
                "modified. Open the .pt that it was exported from."
            )
        return self._network

    @property
    def is_own_network(self) -> bool:
        """Whether it is a network in torch, whose layers can be read; not an exported file or another package's."""
        return self._network is not None

    @property
    def names(self) -> dict[int, str]:
        """Class names by index."""
        return self.spec.names

    @property
    def spec(self) -> PoseSpec:
        """Classes and keypoints of the network."""
        return self._network.spec if self._network is not None else self._runtime().metadata.spec

    @property
    def is_foreign(self) -> bool:
        """Whether this is a network of another package, which takes images at their own size."""
        return self._foreign

    @property
    def device(self) -> Device:
        """Device of the parameters, or on which an exported file runs."""
        if self._network is None:
            return Device(self._placement.get("device") or self._runtime().device)
        return Device(next(self._network.parameters()).device)

    def info(self, detailed: bool = False, verbose: bool = True, imgsz: int = 640) -> ModelInfo:
        """Count layers, parameters and GFLOPs, and print them.

        Args:
            detailed: print a line per row of the model YAML.
            verbose: print anything.
            imgsz: side of the square input for the GFLOPs, pixels.
        """
        return self.model.info(detailed=detailed, verbose=verbose, imgsz=imgsz)

    def fuse(self, verbose: bool = True, imgsz: int = 640) -> Self:
        """Fold each batch norm into its convolution, for inference; outputs change only by rounding.

        Args:
            verbose: print the size of the fused network.
            imgsz: side of the square input for its GFLOPs, pixels.
        """
        self.model.eval().fuse()
        self._runtimes.clear()
        if verbose:
            self.info(imgsz=imgsz)
        return self

    # -- weights --------------------------------------------------------------------------------

    def load(self, weights: str | Path | ModelBase | Mapping[str, Any]) -> Self:
        """Copy the tensors that match in name and shape, and log how many.

        Args:
            weights: a weights file, the name of public weights, another `YOLO` object, or a state dict.

        Raises:
            NotFoundError: the file does not exist.
            WeightsError: the file is damaged or unsafe.
        """
        from yolopose.weights import load_matching, read_checkpoint

        if isinstance(weights, ModelBase):
            source, state = weights.model_name, weights.model.state_dict()
        elif isinstance(weights, Mapping):
            source, state = "the state dict", weights
        else:
            source = str(find_weights(complete_suffix(Path(weights))))
            state = read_checkpoint(Path(source)).state
        moved = load_matching(self.model, state)
        LOGGER.info(f"{moved.summary(source, 'keep their own values')}.")
        self._set_calibration(None)
        self._untrained = False
        return self

    def save(self, filename: str | Path = "model.pt") -> Path:
        """Write the network to `filename`: `.pt` (readable with `weights_only=True`) or `.safetensors`.

        Raises:
            OutputError: the file cannot be written.
            WeightsError: the suffix is not one of the two.
        """
        from yolopose.weights import make_checkpoint, write_checkpoint

        path = Path(filename)
        args = dict(self.ckpt.train_args) if self.ckpt else {}
        license_ = self.ckpt.license if self.ckpt else ""
        checkpoint = make_checkpoint(self.model, args=args, license=license_, calibration=self._metadata.calibration)
        write_checkpoint(path, checkpoint)
        return path

    def reset_weights(self) -> Self:
        """Set all parameters to new random values; training then initializes the network."""
        from yolopose.nn import build_network

        network = build_network(self.model.yaml, spec=self.spec)
        self.model.load_state_dict(network.state_dict())
        self._set_calibration(None)
        self._untrained = True
        return self

    # -- callbacks -------------------------------------------------------------------------------

    def add_callback(self, event: str, func: Callable[[Any], object]) -> None:
        """Call a function of one argument (trainer, validation, …) at an event, such as `on_train_epoch_end`.

        Raises:
            UsageError: the event is unknown; the message lists all events.
        """
        self.callbacks.add(event, func)

    def clear_callback(self, event: str) -> None:
        """Remove the functions of an event.

        Raises:
            UsageError: the event is unknown.
        """
        self.callbacks.clear_event(event)

    def reset_callbacks(self) -> None:
        """Remove the functions of all events."""
        self.callbacks.reset()

    # -- internals -------------------------------------------------------------------------------

    def _require_own(self) -> None:
        """Refuse a network of another package, before torch is loaded."""
        if self._foreign:
            raise UsageError(describe_foreign(self.model_name))

    @property
    def _metadata(self) -> ModelMetadata:
        """Metadata stored with the weights, or that of a network without any."""
        return (self.ckpt.metadata if self.ckpt else None) or self.model.default_metadata()

    def _set_calibration(self, scale: ConfidenceScale | None) -> None:
        """Set the calibration of the weights, and close the engines, which have the old one."""
        self._runtimes.clear()
        if self._metadata.calibration == scale:
            return
        from yolopose.weights import make_checkpoint

        checkpoint = self.ckpt or make_checkpoint(self.model)
        self.ckpt = replace(checkpoint, metadata=replace(self._metadata, calibration=scale))

    def _check(self, mode: str, options: object, **parameters: Any) -> CheckedOptions:
        """Check the options of a call; `parameters` are those that the method declares itself.

        Raises:
            UsageError: an unknown or impossible option.
        """
        values = {**cast("dict[str, Any]", options), **parameters}
        if isinstance(values.get("data"), Mapping):
            from yolopose.data.foreign_data import yaml_of_dict

            values["data"] = yaml_of_dict(values["data"])
        elif values.get("data") is None:
            values.pop("data", None)
        model = values.get("model")
        if model is not None and str(model) != self.model_name:
            raise UsageError(
                f"{mode}(model={str(model)!r}) is not possible: this object is {self.model_name}. Open the other "
                f"network, YOLO({str(model)!r}).{mode}(…), or copy its weights, .load({str(model)!r})."
            )
        return check_options(mode, values)

    def _runtime_for(self, options: PredictOptions | ValOptions) -> Runtime:
        with quiet(not options.verbose):
            return self._runtime(runtime_config(options, self._network))

    def _runtime(self, config: RuntimeConfig | None = None) -> Runtime:
        """Return the runtime of this configuration, made once: fusing and moving weights is slower than an image."""
        chosen = config or RuntimeConfig(device=self._placement.get("device", ""))
        return self._runtimes.get(str(chosen), lambda: self._open_runtime(chosen))

    def _open_runtime(self, config: RuntimeConfig) -> Runtime:
        if self._exported is not None:
            return (open_foreign_file if self._foreign else open_exported)(self._exported, config)
        untrained = self.model_name if self._untrained else ""
        return runtime_for_network(self.model, self._metadata, config, untrained)

    def __getattr__(self, name: str) -> Any:
        if name in MISSING_ATTRIBUTES:
            raise MissingFeatureError(f"YOLO.{name} does not exist in yolopose: {MISSING_ATTRIBUTES[name]}.")
        if name in MODULE_METHODS and "_network" in self.__dict__:
            return getattr(self.model, name)
        raise AttributeError(f"'YOLO' object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"YOLO({self.model_name!r})"
