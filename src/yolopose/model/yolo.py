"""The class that people import: one verb per mode, each a few lines that join the rooms below."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import UsageError
from yolopose.base.launch_env import is_worker_rank
from yolopose.base.log import LOGGER, quiet, silent
from yolopose.config import (
    BenchmarkOptions,
    ExportOptions,
    PredictOptions,
    TrainOptions,
    ValOptions,
    check_options,
    make_options,
)
from yolopose.formats import format_for_path, formats, require_engine, require_packages, suffixes
from yolopose.model.hub import find_weights, is_url, suggest_model
from yolopose.model.runtimes import RuntimeConfig, open_exported, runtime_config, runtime_for_network
from yolopose.schema import PoseSpec

if TYPE_CHECKING:
    from yolopose.evaluate import PoseMetrics
    from yolopose.model.benchmark_table import Benchmark
    from yolopose.nn import ModelInfo, PoseModel
    from yolopose.results import Results
    from yolopose.runtime import Runtime
    from yolopose.train import Trainer
    from yolopose.weights import Checkpoint

_YAML = (".yaml", ".yml")
# what a checkpoint's training arguments decide for later calls; the rest of them is about training alone
_REMEMBERED = ("data", "imgsz", "single_cls")
_USUAL = RuntimeConfig()
_LATER = {"track": "tracking", "embed": "embedding", "tune": "tuning"}
_PLACES = ("to", "cpu", "cuda", "half", "float", "eval")


class YOLO:
    """A pose network with the verbs of its life: `train`, `val`, `predict`, `export`, `load`, `save`, `info`, `fuse`.

    Args:
        model: a model YAML (`yolo11n-pose.yaml`: a new network), a weights file (`.pt`, `.safetensors`), or an
            exported file (`.onnx`, `_openvino_model/`), which predicts and validates without torch.
        task: `pose` or None; there is no other.
        verbose: print the table of a newly built network.

    Raises:
        NotFoundError: there is no such file.
        ModelError: the model YAML cannot be built.
        WeightsError: the weights file is damaged, unsafe or of an unknown kind.
        DependencyError: torch is not installed.

    Example:
        >>> from yolopose import YOLO
        >>> results = YOLO("yolo11n-pose.pt")("bus.jpg")  # doctest: +SKIP
    """

    def __init__(self, model: str | Path = "yolo11n-pose.pt", task: str | None = None, verbose: bool = False) -> None:
        if task not in (None, "pose"):
            raise UsageError(f"task={task!r}: yolopose estimates poses only; leave `task` out or say 'pose'.")
        if not isinstance(cast(object, model), str | Path):
            raise UsageError(f"model={model!r} is no path: give that of weights, a model YAML or an exported file.")
        self.task = "pose"
        self.model_name = str(model)
        self.ckpt: Checkpoint | None = None
        self.overrides: dict[str, Any] = {"model": self.model_name, "task": self.task}
        self.metrics: PoseMetrics | None = None
        self.trainer: Trainer | None = None
        self.callbacks = Callbacks()
        self._fresh = Path(model).suffix.lower() in _YAML  # nothing learned yet: training draws its own start
        self._runtimes: dict[str, Runtime] = {}
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
        if not any(row.matches(path) for row in formats()):
            raise UsageError(
                f"model={str(path)!r} is neither a model YAML ({', '.join(_YAML)}) nor a file that holds a network "
                f"({', '.join(suffixes())}).{suggest_model(path)}"
            )
        row = format_for_path(path)
        require_engine(row, path)
        file = find_weights(path)
        if row.exportable:
            self._exported = file
            metadata = self._runtime().metadata  # what is wrong with a file is said when it is opened
            self.overrides["imgsz"] = list(metadata.imgsz)
            return
        from yolopose.weights import load_network

        self._network, self.ckpt = load_network(file)
        remembered = self.ckpt.train_args
        self.overrides.update({key: remembered[key] for key in _REMEMBERED if remembered.get(key) is not None})

    # -- what it is -----------------------------------------------------------------------------

    @property
    def model(self) -> PoseModel:
        """The network as a torch module.

        Raises:
            UsageError: the object holds an exported file, which has none.
        """
        if self._network is None:
            raise UsageError(
                f"{self.model_name} is an exported file: it predicts and validates, but it cannot be trained, "
                "exported, changed or looked into. Open the .pt that it was made from for that."
            )
        return self._network

    @property
    def names(self) -> dict[int, str]:
        """Classes names by index."""
        return self.spec.names

    @property
    def spec(self) -> PoseSpec:
        """Classes and keypoints of the network."""
        return self._network.spec if self._network is not None else self._runtime().metadata.spec

    @property
    def device(self) -> str:
        """Where the network's parameters are; where it runs, for an exported file."""
        if self._network is None:
            return self._runtime().device
        return str(next(self._network.parameters()).device)

    def info(self, detailed: bool = False, verbose: bool = True, imgsz: int = 640) -> ModelInfo:
        """Count layers, parameters and GFLOPs, and prints them.

        Args:
            detailed: print a line per row of the model YAML.
            verbose: print at all.
            imgsz: side of the square input for the GFLOPs, pixels.
        """
        return self.model.info(detailed=detailed, verbose=verbose, imgsz=imgsz)

    def fuse(self) -> YOLO:
        """Fold each batch norm into its convolution, for inference; the outputs stay equal to rounding."""
        self.model.eval().fuse()
        self._runtimes.clear()
        return self

    # -- weights --------------------------------------------------------------------------------

    def load(self, weights: str | Path) -> YOLO:
        """Move weights that agree by name and shape from a file, and says how many of how many.

        Raises:
            NotFoundError: there is no such file.
            WeightsError: the file is damaged or unsafe.
        """
        from yolopose.weights import load_matching, read_checkpoint

        path = find_weights(Path(weights))
        moved = load_matching(self.model, read_checkpoint(path).state)
        LOGGER.info(f"{moved.summary(path, 'keep their own values')}.")
        self._runtimes.clear()
        self._fresh = False
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

    # -- verbs ----------------------------------------------------------------------------------

    @overload
    def predict(self, source: Any = None, *, stream: Literal[True], **options: Any) -> Iterator[Results]: ...
    @overload
    def predict(self, source: Any = None, *, stream: Literal[False] = False, **options: Any) -> list[Results]: ...
    @overload
    def predict(self, source: Any = None, *, stream: bool, **options: Any) -> list[Results] | Iterator[Results]: ...
    def predict(self, source: Any = None, *, stream: bool = False, **options: Any) -> list[Results] | Iterator[Results]:
        """Estimate poses in images.

        Args:
            source: a path, folder, glob, PIL image, numpy array (H, W, 3) BGR uint8, torch tensor
                (B, 3, H, W) RGB 0…1, or a list of these.
            stream: give an iterator that holds one result at a time, instead of a list.
            **options: `conf`, `iou`, `imgsz`, `device`, `save`, …: `yolo help predict` lists them.

        Returns:
            One `Results` per image, in the order of the sources.

        Raises:
            UsageError: an unknown or impossible option.
            SourceError: the only image cannot be read.
            NotFoundError: a path leads nowhere.
        """
        from yolopose.predict import predict

        chosen = self._options("predict", options, PredictOptions)
        found = predict(self._engine(chosen), source, chosen, self.callbacks)
        return found if stream else list(found)

    __call__ = predict

    def val(self, data: str | Path | None = None, **options: Any) -> PoseMetrics:
        """Measure precision, recall and mAP of boxes and poses on a data set.

        Args:
            data: data YAML; the one that the weights were trained on when left out.
            **options: `imgsz`, `batch`, `conf`, `iou`, `split`, `device`, …: `yolo help val` lists them.

        Raises:
            UsageError: an unknown or impossible option, or no data set is known.
            DataError: the data set cannot be used with this network.
        """
        from yolopose.evaluate import validate

        if data is not None:
            options["data"] = str(data)
        chosen = self._options("val", options, ValOptions)
        if chosen.data is None:
            raise UsageError(
                "Validation needs a data set: give `data=coco8-pose.yaml` or the path of your own data YAML "
                "(these weights do not remember one)."
            )
        self.metrics = validate(self._engine(chosen), chosen, callbacks=self.callbacks)
        return self.metrics

    def train(self, data: str | Path | None = None, **options: Any) -> PoseMetrics | None:
        """Train on a data set; the object then holds the best network of the run.

        A model YAML starts fresh, or from the weights of `pretrained=…`; a weights file goes on from its own. Weights
        move wherever name and shape agree, so the data set may have other classes or keypoints.

        Args:
            data: data YAML; the one that the weights were trained on when left out.
            **options: `epochs`, `imgsz`, `batch`, `resume`, …: `yolo help train` lists them.

        Returns:
            The metrics of the best network; None when the data set has nothing to measure on, and under torchrun in
            all processes but the first.

        Raises:
            UsageError: an unknown or impossible option, or no data set is known.
            DataError: the data set cannot be used.
            TrainError: the training cannot go on, or there is nothing to resume.
            OutputError: a file cannot be written.
            KeyboardInterrupt: the run was interrupted; `resume=True` goes on with it.
        """
        if data is not None:
            options["data"] = str(data)
        given = check_options("train", {key: value for key, value in options.items() if key != "trainer"})
        chosen = self._options("train", given, TrainOptions)
        from yolopose.model.training import trainer_of
        from yolopose.train import Launcher, worker_trainer

        with quiet(not chosen.verbose), silent(is_worker_rank()), Launcher() as launcher:
            if is_worker_rank():
                self.trainer = worker_trainer(launcher)
            else:
                self.trainer = trainer_of(self, chosen, given, launcher, fresh=self._fresh)
            self.metrics = self.trainer.train()
        self._take_over(self.trainer)
        return self.metrics

    def export(self, **options: Any) -> str:
        """Write the network in another format, beside its weights, and compares the file's numbers with torch's.

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
        from yolopose.model.exporting import export

        chosen = self._options("export", options, ExportOptions)
        with quiet(not chosen.verbose):
            metadata = self.ckpt.metadata if self.ckpt else None
            return str(export(self.model, metadata, chosen, self.model_name, self.overrides.get("data")))

    def benchmark(self, data: str | Path | None = None, **options: Any) -> Benchmark:
        """Write the network in every format that goes here, and measures size, accuracy and time of each.

        Args:
            data: data YAML to measure on; the one that the weights were trained on when left out.
            **options: `format`, `imgsz`, `half`, `int8`, …: `yolo help benchmark` lists them.

        Returns:
            The table: `rows`, `summary()`, `to_csv()`, `to_df()`; files and table are in its `save_dir`.

        Raises:
            UsageError: an unknown or impossible option or format, or no data set is known.
            DataError: the data set cannot be used with this network.
            ExportError: `verbose` is a number, and the accuracy of a format is below it.
            OutputError: a file cannot be written.
        """
        from yolopose.model.benchmark import benchmark

        if data is not None:
            options["data"] = str(data)
        chosen = self._options("benchmark", options, BenchmarkOptions)
        with quiet(not chosen.verbose):
            return benchmark(self.model, self.ckpt.metadata if self.ckpt else None, chosen, Path(self.model_name).stem)

    def _take_over(self, trainer: Trainer) -> None:
        """Hold what a run has made: best.pt, or the last average where nothing was kept."""
        self._runtimes.clear()
        self._fresh = False
        if trainer.best.exists() and trainer.args.save:
            self.model_name = str(trainer.best)
            self._open(trainer.best, False)
        else:
            self._network, self.ckpt = trainer.ema.model.cpu(), None
        self.overrides.update({"model": self.model_name, "data": trainer.args.data, "imgsz": trainer.args.imgsz})

    # -- callbacks ------------------------------------------------------------------------------

    def add_callback(self, event: str, func: Callable[[Any], object]) -> None:
        """Call a function of one argument (trainer, validation, …) at an event, such as `on_train_epoch_end`.

        Raises:
            UsageError: there is no such event; the text lists them.
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

    # -- within ---------------------------------------------------------------------------------

    def _options(self, mode: str, given: Mapping[str, Any], kind: type[Any]) -> Any:
        remembered = {key: self.overrides[key] for key in _REMEMBERED if key in self.overrides}
        if mode in ("predict", "export"):  # neither needs a data set
            remembered.pop("data", None)
        if mode in ("predict", "export", "benchmark"):
            remembered.pop("single_cls", None)
        asked = check_options(mode, given)
        options = make_options(mode, {**remembered, **asked})
        named = asked.get("data") or asked.get("resume")
        if "data" in remembered and not named and asked.get("verbose", True):
            LOGGER.info(f"No data= given: {remembered['data']}, as when these weights were trained.")
        assert isinstance(options, kind)  # noqa: S101  # the table of modes and this file must agree
        return options

    def _engine(self, options: PredictOptions | ValOptions) -> Runtime:
        with quiet(not options.verbose):
            return self._runtime(runtime_config(options, self._network))

    def _runtime(self, choice: RuntimeConfig = _USUAL) -> Runtime:
        """The engine that is asked for, made once: folding and moving the weights takes longer than an image."""
        key = str(choice)
        if key not in self._runtimes:
            if self._exported is not None:
                self._runtimes[key] = open_exported(self._exported, choice)
            else:
                metadata = self.ckpt.metadata if self.ckpt else None
                fresh = self.model_name if self._fresh else ""
                self._runtimes[key] = runtime_for_network(self.model, metadata, choice, fresh)
        return self._runtimes[key]

    def __getattr__(self, name: str) -> Any:
        if name in _LATER:
            raise NotYetError(f"{_LATER[name].capitalize()} is not in this version of yolopose yet.")
        if name in _PLACES:
            raise AttributeError(
                f"'YOLO' object has no attribute {name!r}: each call chooses for itself, as in "
                "predict(…, device=0, half=True); the torch module is `.model`."
            )
        raise AttributeError(f"'YOLO' object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"YOLO({self.model_name!r})"


class NotYetError(UsageError, AttributeError):
    """A verb that the interface will have and this version has not."""
