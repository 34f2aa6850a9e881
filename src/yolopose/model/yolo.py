"""The class `YOLO`: one method per mode, each a few lines that join the packages below."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import UsageError
from yolopose.base.isolation import default_errors, with_default_errors
from yolopose.base.launch_env import is_worker_rank
from yolopose.base.log import LOGGER, quiet, silent
from yolopose.config import (
    BenchmarkOptions,
    CheckedOptions,
    ExportOptions,
    LabelOptions,
    PredictOptions,
    TrackOptions,
    TrainOptions,
    ValOptions,
    check_options,
    check_overrides,
    make_options,
)
from yolopose.formats import describe_suffixes, find_format, require_engine, require_packages
from yolopose.model.hub import find_weights, is_url, suggest_model
from yolopose.model.runtimes import (
    RuntimeCache,
    RuntimeConfig,
    backbone_embedder,
    open_exported,
    runtime_config,
    runtime_for_network,
)
from yolopose.schema import ModelMetadata, PoseSpec

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from yolopose.config.kwargs import (
        BenchmarkKwargs,
        ExportKwargs,
        LabelKwargs,
        PredictKwargs,
        TrackKwargs,
        TrainKwargs,
        ValKwargs,
    )
    from yolopose.evaluate import PoseMetrics
    from yolopose.model.benchmark_table import Benchmark
    from yolopose.nn import ModelInfo, PoseModel
    from yolopose.predict.labeling import LabelResult
    from yolopose.results import Results
    from yolopose.runtime import Runtime
    from yolopose.track import StreamTrackers
    from yolopose.train import InitialWeights, Trainer
    from yolopose.weights import Checkpoint

_YAML = (".yaml", ".yml")
# training arguments of a checkpoint that are defaults of later calls, by mode; the others concern only training
_REMEMBERED = {
    "predict": ("imgsz",),
    "track": ("imgsz",),
    "label": ("imgsz",),
    "export": ("imgsz",),
    "benchmark": ("data", "imgsz"),
    "val": ("data", "imgsz", "single_cls"),
    "train": ("data", "imgsz", "single_cls"),
}
_DEFAULT_RUNTIME = RuntimeConfig()
_PLANNED = {"embed": "embedding", "tune": "tuning"}
_MODULE_METHODS = ("to", "cpu", "cuda", "half", "float", "eval")


class YOLO:
    """A pose network: `train`, `val`, `predict`, `track`, `export`, `benchmark`, `load`, `save`, `info`, `fuse`.

    Args:
        model: a model YAML (`yolo11n-pose.yaml`: a new network), a weights file (`.pt`, `.safetensors`), an exported
            file (`.onnx`, `_openvino_model/`), which predicts and validates without torch, or the URL of a file.
        task: `pose` or None; other tasks do not exist here.
        verbose: print the layers of a newly built network.

    Raises:
        NotFoundError: the file does not exist.
        ModelError: the model YAML cannot be built.
        WeightsError: the weights file is damaged, unsafe or of an unknown kind.
        DependencyError: torch is not installed.

    Example:
        >>> from yolopose import YOLO
        >>> results = YOLO("yolo11n-pose.pt")("bus.jpg")  # doctest: +SKIP
    """

    def __init__(self, model: str | Path = "yolo11n-pose.pt", task: str | None = None, verbose: bool = False) -> None:
        if task not in (None, "pose"):
            raise UsageError(f"task={task!r}: yolopose estimates poses only; omit `task` or give 'pose'.")
        if not isinstance(cast(object, model), str | Path):
            raise UsageError(f"model={model!r} is not a path: give a weights file, a model YAML or an exported file.")
        self.task = "pose"
        self.model_name = str(model)
        self.ckpt: Checkpoint | None = None
        self.overrides: dict[str, Any] = {"model": self.model_name, "task": self.task}
        self._remembered = dict(self.overrides)  # of the weights; other values of `overrides` are the user's
        self.metrics: PoseMetrics | None = None
        self.trainer: Trainer | None = None
        self.tracker: StreamTrackers | None = None
        self.callbacks = Callbacks()
        self._untrained = Path(model).suffix.lower() in _YAML  # training then initializes the weights
        self._runtimes = RuntimeCache()
        self._exported: Path | None = None
        self._network: PoseModel | None = None
        self._open(find_weights(model) if is_url(model) else Path(model), verbose)

    def _open(self, path: Path, verbose: bool) -> None:
        suffix = path.suffix.lower()
        if suffix in _YAML:
            require_packages(("torch",), str(path))
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
            self._exported = file
            metadata = self._runtime().metadata  # report a damaged file now, not at the first prediction
            self._remember({"imgsz": list(metadata.imgsz)})
            return
        from yolopose.weights import load_network

        self._network, self.ckpt = load_network(file)
        args = self.ckpt.train_args
        self._remember({key: args[key] for key in _REMEMBERED["val"] if args.get(key) is not None})

    def __getstate__(self) -> dict[str, Any]:
        """Pickle and copy an exported file as its path; engines are opened again, and a finished trainer is dropped."""
        exported = None if self._exported is None else self._exported.absolute()
        return {**self.__dict__, "_exported": exported, "trainer": None}

    # -- properties ------------------------------------------------------------------------------

    @property
    def model(self) -> PoseModel:
        """The network as a torch module.

        Raises:
            UsageError: the object holds an exported file.
        """
        if self._network is None:
            raise UsageError(
                f"{self.model_name} is an exported file: it can predict and validate, but not be trained, exported or "
                "modified. Open the .pt that it was exported from."
            )
        return self._network

    @property
    def names(self) -> dict[int, str]:
        """Class names by index."""
        return self.spec.names

    @property
    def spec(self) -> PoseSpec:
        """Classes and keypoints of the network."""
        return self._network.spec if self._network is not None else self._runtime().metadata.spec

    @property
    def device(self) -> str:
        """Device of the parameters, or on which an exported file runs."""
        if self._network is None:
            return self._runtime().device
        return str(next(self._network.parameters()).device)

    def info(self, detailed: bool = False, verbose: bool = True, imgsz: int = 640) -> ModelInfo:
        """Count layers, parameters and GFLOPs, and print them.

        Args:
            detailed: print a line per row of the model YAML.
            verbose: print anything.
            imgsz: side of the square input for the GFLOPs, pixels.
        """
        return self.model.info(detailed=detailed, verbose=verbose, imgsz=imgsz)

    def fuse(self) -> YOLO:
        """Fold each batch norm into its convolution, for inference; outputs change only by rounding."""
        self.model.eval().fuse()
        self._runtimes.clear()
        return self

    # -- weights --------------------------------------------------------------------------------

    def load(self, weights: str | Path) -> YOLO:
        """Copy the tensors of a weights file that match in name and shape, and log how many.

        Raises:
            NotFoundError: the file does not exist.
            WeightsError: the file is damaged or unsafe.
        """
        from yolopose.weights import load_matching, read_checkpoint

        path = find_weights(Path(weights))
        moved = load_matching(self.model, read_checkpoint(path).state)
        LOGGER.info(f"{moved.summary(path, 'keep their own values')}.")
        self._runtimes.clear()
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
        write_checkpoint(path, make_checkpoint(self.model, args=args, license=license_))
        return path

    # -- modes -----------------------------------------------------------------------------------
    # Each public method checks its options once; the command line calls the private ones with checked options.

    @overload
    def predict(
        self, source: Any = None, *, stream: Literal[True], **options: Unpack[PredictKwargs]
    ) -> Iterator[Results]: ...
    @overload
    def predict(
        self, source: Any = None, *, stream: Literal[False] = False, **options: Unpack[PredictKwargs]
    ) -> list[Results]: ...
    @overload
    def predict(
        self, source: Any = None, *, stream: bool, **options: Unpack[PredictKwargs]
    ) -> list[Results] | Iterator[Results]: ...
    def predict(
        self, source: Any = None, *, stream: bool = False, **options: Unpack[PredictKwargs]
    ) -> list[Results] | Iterator[Results]:
        """Estimate poses in images.

        Args:
            source: a path, folder, glob, PIL image, numpy array (H, W, 3) BGR uint8, torch tensor
                (B, 3, H, W) RGB 0…1, or a list of these.
            stream: return an iterator that holds one result at a time, instead of a list.
            **options: `conf`, `iou`, `imgsz`, `device`, `save`, …: `yolo help predict` lists them.

        Returns:
            One `Results` per image, in the order of the sources.

        Raises:
            UsageError: an unknown or impossible option.
            SourceError: the only image cannot be read.
            NotFoundError: a path does not exist.
        """
        results = self._predict(source, check_options("predict", options))
        return results if stream else list(results)

    __call__ = predict

    def _predict(self, source: Any, given: CheckedOptions) -> Iterator[Results]:
        from yolopose.predict import predict

        options = cast(PredictOptions, self._make_options(given))
        source = options.source if source is None else source
        return with_default_errors(predict(self._runtime_for(options), source, options, self.callbacks))

    @overload
    def track(
        self, source: Any = None, *, stream: Literal[True], persist: bool = False, **options: Unpack[TrackKwargs]
    ) -> Iterator[Results]: ...
    @overload
    def track(
        self,
        source: Any = None,
        *,
        stream: Literal[False] = False,
        persist: bool = False,
        **options: Unpack[TrackKwargs],
    ) -> list[Results]: ...
    @overload
    def track(
        self, source: Any = None, *, stream: bool, persist: bool = False, **options: Unpack[TrackKwargs]
    ) -> list[Results] | Iterator[Results]: ...
    def track(
        self, source: Any = None, *, stream: bool = False, persist: bool = False, **options: Unpack[TrackKwargs]
    ) -> list[Results] | Iterator[Results]:
        """Estimate poses in videos or streams, and give each instance an id that stays the same over the frames.

        Each video and stream of a source has its own ids, from 1. The single images of a source are one sequence.
        Results hold only instances with an id, `result.boxes.id`.

        Args:
            source: as for `predict`.
            stream: return an iterator that holds one result at a time, instead of a list.
            persist: continue the tracks of the previous call: for single frames of a video, or a stream that is opened
                again. A video file always starts with id 1.
            **options: `tracker`, `max_instances`, `conf`, `save`, …: `yolo help track` lists them.

        Returns:
            One `Results` per image, in the order of the sources.

        Raises:
            UsageError: an unknown or impossible option or tracker.
            DependencyError: scipy is not installed.
            SourceError: the only image cannot be read.
            NotFoundError: a path does not exist.
        """
        results = self._track(source, check_options("track", {**options, "persist": persist}))
        return results if stream else list(results)

    def _track(self, source: Any, given: CheckedOptions) -> Iterator[Results]:
        from yolopose.predict import predict

        options = cast(TrackOptions, self._make_options(given))
        self.tracker = self._trackers_for(options)
        source = options.source if source is None else source
        items = predict(self._runtime_for(options), source, options, self.callbacks, self.tracker)
        return with_default_errors(items)

    def _trackers_for(self, options: TrackOptions) -> StreamTrackers:
        """Return new trackers, or with `persist` those of the previous call if it had the same options."""
        from yolopose.track import StreamTrackers

        trackers = StreamTrackers(
            options.tracker,
            self.spec.keypoints.oks_sigmas,
            options.fps,
            smooth=options.smooth is True,
            max_instances=options.max_instances,
        )
        if not options.persist or self.tracker is None:
            return trackers
        if self.tracker.config != trackers.config:
            LOGGER.warning("Options of the tracker differ from those of the previous call: ids start at 1 again.")
            return trackers
        self.tracker.start_call()
        return self.tracker

    def reset_tracker(self) -> None:
        """Remove all tracks, so that ids start at 1 again, also with `persist=True`."""
        self.tracker = None

    def load_tracker_state(self, state: Mapping[str, Any]) -> None:
        """Restore the tracks that `model.tracker.state_dict()` returned; `track(…, persist=True)` continues them.

        Raises:
            UsageError: it is not such a state.
        """
        from yolopose.track import StreamTrackers

        self.tracker = StreamTrackers.from_state_dict(state, self.spec.keypoints.oks_sigmas)

    def label(
        self, source: Any, output: str | Path | None = None, *, to: str = "yolo", **options: Unpack[LabelKwargs]
    ) -> LabelResult:
        """Write predictions as annotations, for review in a labeling tool, and suggest which images to label.

        Args:
            source: images or videos, as of `predict`; frames of videos are written as images.
            output: folder, absent or empty, or main file of the format; a new folder `runs/pose/label` by default.
            to: annotation format: `yolo`, `coco`, `cvat`, `labelstudio`, `labelme`, ….
            **options: `min_conf`, `kpt_conf`, `suggest`, …: `yolo help label` lists them.

        Returns:
            The written file, the numbers of images and instances, and the suggestions.

        Raises:
            UsageError: an unknown or impossible option or format.
            NotFoundError: a path does not exist.
            SourceError: no image can be read.
            OutputError: the output exists or cannot be written.
        """
        return self._label(source, check_options("label", {**options, "output": output, "to": to}))

    @default_errors
    def _label(self, source: Any, given: CheckedOptions) -> LabelResult:
        from yolopose.predict.labeling import label_source, predict_options

        options = cast(LabelOptions, self._make_options(given))
        runtime = self._runtime_for(predict_options(options, options.min_conf))
        embed = None if self._network is None or options.suggest is None else backbone_embedder(self._network)
        with quiet(not options.verbose):
            return label_source(runtime, source, options, model_name=Path(self.model_name).stem, embed=embed)

    def val(self, data: str | Path | None = None, **options: Unpack[ValKwargs]) -> PoseMetrics:
        """Measure precision, recall and mAP of boxes and poses on a data set.

        Args:
            data: data YAML; by default the one that the weights were trained on.
            **options: `imgsz`, `batch`, `conf`, `iou`, `split`, `device`, …: `yolo help val` lists them.

        Raises:
            UsageError: an unknown or impossible option, or no data set is known.
            DataError: the data set cannot be used with this network.
        """
        return self._val(check_options("val", _with_data(options, data)))

    @default_errors
    def _val(self, given: CheckedOptions) -> PoseMetrics:
        from yolopose.evaluate import validate

        options = cast(ValOptions, self._make_options(given))
        if options.data is None:
            raise UsageError(
                "Validation needs a data set: give `data=coco8-pose.yaml` or the path of your own data YAML "
                "(these weights do not store one)."
            )
        self.metrics = validate(self._runtime_for(options), options, callbacks=self.callbacks)
        return self.metrics

    def train(
        self, data: str | Path | None = None, trainer: object = None, **options: Unpack[TrainKwargs]
    ) -> PoseMetrics | None:
        """Train on a data set; the object then holds the best network of the run.

        A model YAML starts from random weights, or from those of `pretrained=…`; a weights file starts from its own.
        Tensors that match in name and shape are copied, so the data set may have other classes or keypoints.

        Args:
            data: data YAML; by default the one that the weights were trained on.
            trainer: ignored; accepted for compatibility.
            **options: `epochs`, `imgsz`, `batch`, `resume`, …: `yolo help train` lists them.

        Returns:
            The metrics of the best network; None when the data set has no images to validate on, and in every process
            of torchrun but the first.

        Raises:
            UsageError: an unknown or impossible option, or no data set is known.
            DataError: the data set cannot be used.
            TrainError: the training fails, or there is nothing to resume.
            OutputError: a file cannot be written.
            KeyboardInterrupt: the run was interrupted; `resume=True` continues it.
        """
        return self._train(check_options("train", _with_data(options, data)))

    @default_errors
    def _train(self, given: CheckedOptions) -> PoseMetrics | None:
        given = self._with_overrides(given)
        options = cast(TrainOptions, self._make_options(given))
        from yolopose.train import Launcher, new_trainer, resume_path, resumed_trainer, worker_trainer

        with quiet(not options.verbose), silent(is_worker_rank()), Launcher() as launcher:
            if is_worker_rank():
                self.trainer = worker_trainer(launcher)
            elif options.resume:
                path = find_weights(resume_path(options.resume, Path(self.model_name)))
                self.trainer = resumed_trainer(path, given, self.callbacks, launcher)
            else:
                options = replace(options, model=self.model_name)
                weights = self._initial_weights(options.pretrained)
                self.trainer = new_trainer(options, self.model.yaml, weights, self.callbacks, launcher, given)
            self.metrics = self.trainer.train()
        self._load_trained(self.trainer)
        return self.metrics

    def _initial_weights(self, pretrained: bool | str) -> InitialWeights | None:
        """Return the weights that training starts from; None for random ones."""
        from yolopose.train import InitialWeights

        if isinstance(pretrained, str):
            return InitialWeights.from_file(find_weights(Path(pretrained)))
        if not pretrained or self._untrained:
            return None
        license_ = self.ckpt.license if self.ckpt else ""
        return InitialWeights(self.model.state_dict(), self.spec, self.model_name, license_)

    def export(self, **options: Unpack[ExportKwargs]) -> str:
        """Write the network in another format, beside its weights, and compare its outputs with torch's.

        Args:
            **options: `format`, `imgsz`, `half`, `dynamic`, …: `yolo help export` lists them.

        Returns:
            The path of the file, which `YOLO(path)` opens.

        Raises:
            UsageError: an unknown or impossible option or format.
            DependencyError: the converter is not installed.
            ExportError: the network cannot be converted, or the file computes something else.
            OutputError: the file cannot be written.
        """
        return self._export(check_options("export", options))

    @default_errors
    def _export(self, given: CheckedOptions) -> str:
        from yolopose.model.exporting import Export

        options = cast(ExportOptions, self._make_options(given))
        with quiet(not options.verbose):
            export = Export(self.model, self._metadata, options, self.callbacks)
            return str(export.run(Path(self.model_name), self.overrides.get("data")))

    def benchmark(self, data: str | Path | None = None, **options: Unpack[BenchmarkKwargs]) -> Benchmark:
        """Export to every format available here, and measure size, accuracy and time of each.

        Args:
            data: data YAML to measure on; by default the one that the weights were trained on.
            **options: `format`, `imgsz`, `half`, `int8`, …: `yolo help benchmark` lists them.

        Returns:
            The table: `rows`, `summary()`, `to_csv()`, `to_df()`; files and table are in its `save_dir`.

        Raises:
            UsageError: an unknown or impossible option or format, or no data set is known.
            DataError: the data set cannot be used with this network.
            ExportError: `verbose` is a number, and the accuracy of a format is below it.
            OutputError: a file cannot be written.
        """
        return self._benchmark(check_options("benchmark", _with_data(options, data)))

    @default_errors
    def _benchmark(self, given: CheckedOptions) -> Benchmark:
        from yolopose.model.benchmark import benchmark

        options = cast(BenchmarkOptions, self._make_options(given))
        with quiet(not options.verbose):
            return benchmark(self.model, self._metadata, options, Path(self.model_name).stem)

    def _load_trained(self, trainer: Trainer) -> None:
        """Switch to the network of a finished run: best.pt, or the EMA weights where nothing was saved."""
        self._runtimes.clear()
        self._untrained = False
        if trainer.best.exists() and trainer.args.save:
            self.model_name = str(trainer.best)
            self._open(trainer.best, False)
        else:
            self._network, self.ckpt = trainer.ema.model.cpu(), None
        self._remember({"model": self.model_name, "data": trainer.args.data, "imgsz": trainer.args.imgsz})

    # -- callbacks -------------------------------------------------------------------------------

    def add_callback(self, event: str, func: Callable[[Any], object]) -> None:
        """Call a function of one argument (trainer, validation, …) at an event, such as `on_train_epoch_end`.

        Raises:
            UsageError: there is no such event; the message lists them.
        """
        self.callbacks.add(event, func)

    def clear_callback(self, event: str) -> None:
        """Remove the functions of an event.

        Raises:
            UsageError: there is no such event.
        """
        self.callbacks.clear_event(event)

    def reset_callbacks(self) -> None:
        """Remove the functions of all events."""
        self.callbacks.reset()

    # -- internals -------------------------------------------------------------------------------

    @property
    def _metadata(self) -> ModelMetadata:
        """Metadata stored with the weights, or that of a network without any."""
        return (self.ckpt.metadata if self.ckpt else None) or self.model.default_metadata()

    def _remember(self, values: Mapping[str, Any]) -> None:
        """Store values of the weights in `overrides`, except those that the user has changed there."""
        changed = self._changed_overrides()
        self.overrides.update({name: value for name, value in values.items() if name not in changed})
        self._remembered.update(values)

    def _changed_overrides(self) -> dict[str, Any]:
        """Return what the user has set in `overrides`."""
        remembered = self._remembered
        return {
            name: value
            for name, value in self.overrides.items()
            if name not in remembered or type(remembered[name]) is not type(value) or remembered[name] != value
        }

    def _with_overrides(self, given: CheckedOptions) -> CheckedOptions:
        """Add the options that the user has set in `overrides`; those of the call win over them.

        Raises:
            UsageError: an option is unknown, or its value is impossible.
        """
        return CheckedOptions(given.mode, {**check_overrides(given.mode, self._changed_overrides()), **given})

    def _make_options(self, given: CheckedOptions) -> Any:
        """Complete the given options with `overrides`, with those that the weights remember, and with defaults."""
        given = self._with_overrides(given)
        names = [name for name in _REMEMBERED[given.mode] if name in self.overrides and name not in given]
        remembered = check_options(given.mode, {name: self.overrides[name] for name in names})
        if "data" in remembered and not given.get("resume") and given.get("verbose", True):
            LOGGER.info(f"No data= given: using {remembered['data']}, on which these weights were trained.")
        return make_options(given.mode, CheckedOptions(given.mode, {**remembered, **given}))

    def _runtime_for(self, options: PredictOptions | ValOptions) -> Runtime:
        with quiet(not options.verbose):
            return self._runtime(runtime_config(options, self._network))

    def _runtime(self, config: RuntimeConfig = _DEFAULT_RUNTIME) -> Runtime:
        """Return the runtime of this configuration, made once: fusing and moving weights is slower than an image."""
        return self._runtimes.get(str(config), lambda: self._open_runtime(config))

    def _open_runtime(self, config: RuntimeConfig) -> Runtime:
        if self._exported is not None:
            return open_exported(self._exported, config)
        untrained = self.model_name if self._untrained else ""
        return runtime_for_network(self.model, self._metadata, config, untrained)

    def __getattr__(self, name: str) -> Any:
        if name in _PLANNED:
            raise NotYetError(f"{_PLANNED[name].capitalize()} is not in this version of yolopose yet.")
        if name in _MODULE_METHODS:
            raise AttributeError(
                f"'YOLO' object has no attribute {name!r}: give the device and precision to each call, as in "
                "predict(…, device=0, half=True); the torch module is `.model`."
            )
        raise AttributeError(f"'YOLO' object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"YOLO({self.model_name!r})"


class NotYetError(UsageError, AttributeError):
    """A method of the public interface that this version does not have yet."""


def _with_data(options: object, data: str | Path | None) -> dict[str, Any]:
    values = dict(cast("dict[str, Any]", options))
    return values if data is None else {**values, "data": data}
