"""The class `YOLO`: one method per mode, each a few lines that join the packages below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from yolopose.base.download import sha256
from yolopose.base.errors import UsageError
from yolopose.base.isolation import default_errors, with_default_errors
from yolopose.base.launch_env import is_worker_rank
from yolopose.base.log import LOGGER, quiet, silent
from yolopose.config import (
    BenchmarkOptions,
    CheckedOptions,
    EmbedOptions,
    ExportOptions,
    LabelOptions,
    PredictOptions,
    TrackOptions,
    TrainOptions,
    ValOptions,
    make_options,
)
from yolopose.model.fold_plan import is_fold_run
from yolopose.model.hub import complete_suffix, find_weights
from yolopose.model.improving import ImprovingMixin

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from yolopose.config.kwargs import (
        BenchmarkKwargs,
        EmbedKwargs,
        ExportKwargs,
        LabelKwargs,
        PredictKwargs,
        TrackKwargs,
        TrainKwargs,
        ValKwargs,
    )
    from yolopose.evaluate import PoseMetrics
    from yolopose.model.benchmark_table import Benchmark
    from yolopose.predict.embedding import Embedding
    from yolopose.predict.labeling import LabelResult
    from yolopose.results import Results
    from yolopose.track import StreamTrackers
    from yolopose.train import InitialWeights, Trainer

DataSource = str | Path | Mapping[str, Any] | None


class YOLO(ImprovingMixin):
    """A pose network: `train`, `val`, `predict`, `track`, `embed`, `export`, `tune`, `calibrate`, `load`, `save`, ….

    Args:
        model: a model YAML (`yolo11n-pose.yaml`: a new network), a weights file (`.pt`, `.safetensors`), an exported
            file (`.onnx`, `_openvino_model/`), which predicts and validates without torch, the URL of a file, the name
            of public weights without suffix (`yolo11n-pose`), or a network of another package by name (`rtmo-s`) or
            file; `yolo models` lists the names. Another `YOLO` object: the same network again.
        task: `pose` or None; other tasks do not exist here.
        verbose: print the layers of a newly built network.

    Raises:
        NotFoundError: the file does not exist.
        ModelError: the model YAML cannot be built.
        WeightsError: the weights file is damaged, unsafe or of an unknown kind.
        DependencyError: torch is not installed.

    Examples:
        >>> import numpy as np
        >>> from yolopose import YOLO
        >>> model = YOLO("yolo11n-pose.yaml")  # a new network; "yolo11n-pose.pt": public weights
        >>> model.task, model.spec.keypoints.shape
        ('pose', (17, 3))
        >>> results = model(np.zeros((48, 64, 3), np.uint8), imgsz=64, verbose=False)
        >>> len(results), results[0].keypoints.xy.shape[1]
        (1, 17)
    """

    # -- modes -----------------------------------------------------------------------------------
    # Each public method checks its options once; the command line calls the private ones with checked options.

    @overload
    def predict(
        self, source: Any = None, stream: Literal[False] = False, **options: Unpack[PredictKwargs]
    ) -> list[Results]: ...
    @overload
    def predict(self, source: Any, stream: Literal[True], **options: Unpack[PredictKwargs]) -> Iterator[Results]: ...
    @overload
    def predict(
        self, source: Any = None, *, stream: Literal[True], **options: Unpack[PredictKwargs]
    ) -> Iterator[Results]: ...
    @overload
    def predict(
        self, source: Any = None, stream: bool = False, **options: Unpack[PredictKwargs]
    ) -> list[Results] | Iterator[Results]: ...
    def predict(
        self, source: Any = None, stream: bool = False, **options: Unpack[PredictKwargs]
    ) -> list[Results] | Iterator[Results]:
        """Estimate poses in images.

        Args:
            source: a path, folder, glob, PIL image, numpy array (H, W, 3) BGR uint8, torch tensor
                (B, 3, H, W) RGB 0…1, or a list of these.
            stream: return an iterator that holds one result at a time, instead of a list.
            **options: `conf`, `iou`, `imgsz`, `device`, `save`, …: `yolo help predict` lists them.

        Returns:
            One `Results` per image, in the order of the sources; with `embed=…` the vectors of `embed` instead.

        Raises:
            UsageError: an unknown or impossible option.
            SourceError: the only image cannot be read.
            NotFoundError: a path does not exist.
        """
        results = self._predict(source, self._check("predict", options))
        return results if stream else list(results)

    __call__ = predict

    def _predict(self, source: Any, given: CheckedOptions) -> Iterator[Results]:
        from yolopose.predict import predict

        options = cast(PredictOptions, self._defaults.complete(given))
        source = options.source if source is None else source
        if options.embed is not None:
            return cast("Iterator[Results]", self._vectors(source, options, options.embed))
        return with_default_errors(predict(self._runtime_for(options), source, options, self.callbacks))

    @overload
    def embed(
        self,
        source: Any = None,
        stream: Literal[False] = False,
        layers: int | Sequence[int] | None = None,
        **options: Unpack[EmbedKwargs],
    ) -> list[Tensor]: ...
    @overload
    def embed(
        self,
        source: Any,
        stream: Literal[True],
        layers: int | Sequence[int] | None = None,
        **options: Unpack[EmbedKwargs],
    ) -> Iterator[Tensor]: ...
    @overload
    def embed(
        self,
        source: Any = None,
        *,
        stream: Literal[True],
        layers: int | Sequence[int] | None = None,
        **options: Unpack[EmbedKwargs],
    ) -> Iterator[Tensor]: ...
    def embed(
        self,
        source: Any = None,
        stream: bool = False,
        layers: int | Sequence[int] | None = None,
        **options: Unpack[EmbedKwargs],
    ) -> list[Tensor] | Iterator[Tensor]:
        """Compute a vector of each image: means of feature maps over all positions.

        Similar images have similar vectors; `yolopose.predict.embedding.EmbeddingIndex` finds the nearest ones.

        Args:
            source: as for `predict`.
            stream: return an iterator that holds one vector at a time, instead of a list.
            layers: layers whose means follow each other in the vector, by index in `model.model`; `embed` in the
                reference package. The one before the head by default.
            **options: `imgsz`, `batch`, `device`, `output`, …: `yolo help embed` lists them. With `output` or `index`
                the vectors are also written or searched, as on the command line.

        Returns:
            One (D,) float32 tensor per image, on the device of the network, in the order of the sources. It holds NaN
            where one of several images cannot be read.

        Raises:
            UsageError: an unknown or impossible option, a layer that does not exist, or an exported file.
            SourceError: the only image cannot be read.
            NotFoundError: a path does not exist.
        """
        if "embed" in options:  # its name in the reference package
            layers = cast("dict[str, Any]", options).pop("embed") if layers is None else layers
        given = self._check("embed", options, layers=layers)
        if {"output", "index"} & set(given):
            import torch

            vectors = iter([torch.from_numpy(item.vector) for item in self._embed_files(source, given)])
        else:
            from yolopose.predict.embedding import embed_options

            complete = cast(EmbedOptions, self._defaults.complete(given))
            vectors = self._vectors(source, embed_options(complete), complete.layers)
        return vectors if stream else list(vectors)

    def _vectors(self, source: Any, options: PredictOptions, layers: int | Sequence[int] | None) -> Iterator[Tensor]:
        from yolopose.predict.embedding import embed_images

        runtime = self._runtime_for(options)
        items = embed_images(runtime, source, options, layers)
        return with_default_errors(runtime.to_array(item.vector) for item in items)

    @default_errors
    def _embed_files(self, source: Any, given: CheckedOptions) -> list[Embedding]:
        """Compute the vectors of a source; write them, or list the images of an index that are nearest to them."""
        from yolopose.predict.embedding import embed_options
        from yolopose.predict.embedding_index import complete_for_index, embed_files

        options = cast(EmbedOptions, self._defaults.complete(complete_for_index(given)))
        runtime = self._runtime_for(embed_options(options))
        source = options.source if source is None else source
        with quiet(not options.verbose):
            return embed_files(runtime, source, options, model=self.model_name, digest=self._digest())

    @overload
    def track(
        self,
        source: Any = None,
        stream: Literal[False] = False,
        persist: bool = False,
        **options: Unpack[TrackKwargs],
    ) -> list[Results]: ...
    @overload
    def track(
        self, source: Any, stream: Literal[True], persist: bool = False, **options: Unpack[TrackKwargs]
    ) -> Iterator[Results]: ...
    @overload
    def track(
        self, source: Any = None, *, stream: Literal[True], persist: bool = False, **options: Unpack[TrackKwargs]
    ) -> Iterator[Results]: ...
    @overload
    def track(
        self, source: Any = None, stream: bool = False, persist: bool = False, **options: Unpack[TrackKwargs]
    ) -> list[Results] | Iterator[Results]: ...
    def track(
        self, source: Any = None, stream: bool = False, persist: bool = False, **options: Unpack[TrackKwargs]
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
            One `Results` per image, in the order of the sources; with `resume=RUN_FOLDER` those after the saved state.

        Raises:
            UsageError: an unknown or impossible option or tracker, or nothing to resume.
            DependencyError: scipy is not installed.
            SourceError: the only image cannot be read.
            NotFoundError: a path does not exist.
        """
        results = self._track(source, self._check("track", options, persist=persist))
        return results if stream else list(results)

    def _track(self, source: Any, given: CheckedOptions) -> Iterator[Results]:
        from yolopose.predict import predict
        from yolopose.predict.resume import RunRecorder, is_recordable, plain_source, read_unfinished

        unfinished = None
        if given.get("resume") is not None:
            unfinished = read_unfinished(given["resume"])
            unfinished.check_model(self.model_name, self._digest())
            unfinished.check_source(source if source is not None else given.get("source"))
            options = cast(TrackOptions, make_options("track", unfinished.check_options(given)))
            source = unfinished.source
        else:
            options = cast(TrackOptions, self._defaults.complete(given))
            source = options.source if source is None else source
        self.tracker = self._trackers_for(options)
        if unfinished is not None:
            self.tracker.load_state_dict(unfinished.tracker)
        recorder = None
        paths = plain_source(source)
        if paths is not None and self.tracker.has_state and is_recordable(options):
            recorder = RunRecorder(self.model_name, self._digest, paths, options, unfinished)
        items = predict(self._runtime_for(options), source, options, self.callbacks, self.tracker, recorder)
        return with_default_errors(items)

    def _digest(self) -> str:
        """Return the SHA-256 of the file of the network; empty for a folder and for a model YAML."""
        if self._untrained:
            return ""
        file = self._exported if self._exported is not None else find_weights(Path(self.model_name))
        return sha256(file) if file.is_file() else ""

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
        return self._label(source, self._check("label", options, output=output, to=to))

    @default_errors
    def _label(self, source: Any, given: CheckedOptions) -> LabelResult:
        from yolopose.predict.labeling import label_source, predict_options

        options = cast(LabelOptions, self._defaults.complete(given))
        runtime = self._runtime_for(predict_options(options, options.min_conf))
        embed = None
        if self._network is not None and options.suggest is not None:
            from yolopose.predict.embedding import image_embedder

            embed = image_embedder(self._runtime_for(replace(predict_options(options, options.min_conf), runtime=None)))
        with quiet(not options.verbose):
            return label_source(runtime, source, options, model_name=Path(self.model_name).stem, embed=embed)

    def val(self, data: DataSource = None, **options: Unpack[ValKwargs]) -> PoseMetrics:
        """Measure precision, recall and mAP of boxes and poses on a data set.

        Args:
            data: data YAML, or a dictionary with its keys; by default the one that the weights were trained on.
            **options: `imgsz`, `batch`, `conf`, `iou`, `split`, `device`, …: `yolo help val` lists them.

        Raises:
            UsageError: an unknown or impossible option, or no data set is known.
            DataError: the data set cannot be used with this network.
        """
        return self._val(self._check("val", options, data=data))

    @default_errors
    def _val(self, given: CheckedOptions) -> PoseMetrics:
        from yolopose.evaluate import validate

        options = cast(ValOptions, self._defaults.complete(given))
        if options.data is None:
            raise UsageError(
                "Validation needs a data set: give `data=coco8-pose.yaml` or the path of your own data YAML "
                "(these weights do not store one)."
            )
        self.metrics = validate(self._runtime_for(options), options, callbacks=self.callbacks)
        return self.metrics

    def train(self, data: DataSource = None, **options: Unpack[TrainKwargs]) -> PoseMetrics | None:
        """Train on a data set; the object then holds the best network of the run.

        A model YAML starts from random weights, or from those of `pretrained=…`; a weights file starts from its own.
        Tensors that match in name and shape are copied, so the data set may have other classes or keypoints.

        Args:
            data: data YAML, or a dictionary with its keys; by default the one that the weights were trained on.
            **options: `epochs`, `imgsz`, `batch`, `resume`, …: `yolo help train` lists them.

        Returns:
            The metrics of the best network; with `folds` or `repeats` the `FoldMetrics` of all trainings, after which
            the object still holds its own network. None when the data set has no images to validate on, and in every
            process of torchrun but the first.

        Raises:
            UsageError: an unknown or impossible option, or no data set is known.
            DataError: the data set cannot be used.
            TrainError: the training fails, or there is nothing to resume.
            OutputError: a file cannot be written.
            KeyboardInterrupt: the run was interrupted; `resume=True` continues it.
        """
        return self._train(self._check("train", options, data=data))

    @default_errors
    def _train(self, given: CheckedOptions) -> PoseMetrics | None:
        self._require_own()
        given = self._defaults.with_overrides(given)
        options = cast(TrainOptions, self._defaults.complete(given))
        if options.folds or options.repeats > 1 or is_fold_run(options.resume):
            return self._cross_validate(options, given)
        from yolopose.train import Launcher, new_trainer, resume_path, resumed_trainer, worker_trainer

        with quiet(not options.verbose), silent(is_worker_rank()), Launcher() as launcher:
            if is_worker_rank():
                self.trainer = worker_trainer(launcher)
            elif options.resume:
                path = find_weights(resume_path(options.resume, Path(self.model_name)))
                self.trainer = resumed_trainer(path, given, self.callbacks, launcher)
            else:
                options = replace(options, model=self.model_name, distill_model=_find_teacher(options.distill_model))
                weights = self._initial_weights(options.pretrained)
                self.trainer = new_trainer(options, self.model.yaml, weights, self.callbacks, launcher, given)
            self.metrics = self.trainer.train()
        self._load_trained(self.trainer)
        return self.metrics

    def _cross_validate(self, options: TrainOptions, given: CheckedOptions) -> PoseMetrics:
        """Train several networks to measure the training; the object keeps the network that it has."""
        from yolopose.model.folds import FoldTraining, cross_validate

        training = FoldTraining(
            yaml=self.model.yaml,
            weights=lambda: self._initial_weights(options.pretrained),
            model_name=self.model_name,
            digest=self._digest(),
            callbacks=self.callbacks,
        )
        with quiet(not options.verbose):
            self.metrics = cross_validate(training, options, given)
        return self.metrics

    def _initial_weights(self, pretrained: bool | str) -> InitialWeights | None:
        """Return the weights that training starts from; None for random ones."""
        from yolopose.train import InitialWeights

        if isinstance(pretrained, str):
            return InitialWeights.from_file(find_weights(Path(pretrained)))
        if not pretrained or self._untrained:
            return None
        license_ = self.ckpt.license if self.ckpt else ""
        state = {name: value.cpu() for name, value in self.model.state_dict().items()}
        return InitialWeights(state, self.spec, self.model_name, license_)

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
        return self._export(self._check("export", options))

    @default_errors
    def _export(self, given: CheckedOptions) -> str:
        self._require_own()
        from yolopose.model.exporting import Export

        options = cast(ExportOptions, self._defaults.complete(given))
        with quiet(not options.verbose):
            export = Export(self.model, self._metadata, options, self.callbacks)
            return str(export.run(Path(self.model_name), self.overrides.get("data")))

    def benchmark(self, data: DataSource = None, **options: Unpack[BenchmarkKwargs]) -> Benchmark:
        """Export to every format available here, and measure size, accuracy and time of each.

        Args:
            data: data YAML to measure on, or a dictionary with its keys; by default that of the training.
            **options: `format`, `imgsz`, `half`, `int8`, …: `yolo help benchmark` lists them.

        Returns:
            The table: `rows`, `summary()`, `to_csv()`, `to_df()`; files and table are in its `save_dir`.

        Raises:
            UsageError: an unknown or impossible option or format, or no data set is known.
            DataError: the data set cannot be used with this network.
            ExportError: `verbose` is a number, and the accuracy of a format is below it.
            OutputError: a file cannot be written.
        """
        return self._benchmark(self._check("benchmark", options, data=data))

    @default_errors
    def _benchmark(self, given: CheckedOptions) -> Benchmark:
        from yolopose.model.benchmark import benchmark

        options = cast(BenchmarkOptions, self._defaults.complete(given))
        with quiet(not options.verbose):
            if self._foreign:
                from yolopose.model.benchmark_foreign import benchmark_foreign

                return benchmark_foreign(self._open_runtime, self.model_name, options)
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
        self._defaults.remember({"model": self.model_name, "data": trainer.args.data, "imgsz": trainer.args.imgsz})
        self._place()


def _find_teacher(path: str | None) -> str | None:
    """Return the absolute path of a teacher, whose weights are downloaded if they are public."""
    if path is None:
        return None
    if Path(path).suffix.lower() in (".yaml", ".yml"):
        raise UsageError(f"distill_model={path} is a new network: a teacher must be trained; give its weights.")
    return str(find_weights(complete_suffix(Path(path))).absolute())
