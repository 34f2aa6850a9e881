"""The modes of the command line: what `yolo train`, `val`, `predict`, `export`, … do with their options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from yolopose.base.errors import DataError, NotFoundError, SourceError, UsageError
from yolopose.base.launch_env import is_worker_rank
from yolopose.base.log import LOGGER
from yolopose.cli.data_modes import DATA_MODES
from yolopose.cli.tracking import evaluate, smooth
from yolopose.config import (
    CheckedOptions,
    CompareOptions,
    ConvertOptions,
    DoctorOptions,
    ExportOptions,
    ReportOptions,
    ServeOptions,
    TrackOptions,
    TritonOptions,
    make_options,
)

if TYPE_CHECKING:
    from yolopose.model import YOLO
    from yolopose.results import Results

DEFAULT_MODEL = "yolo11n-pose.pt"


def _open(options: CheckedOptions) -> YOLO:
    from yolopose.model import YOLO  # loads OpenCV, and torch for weights: not needed for help

    model = options.pop("model", None)
    if model is None:
        LOGGER.info(f"No model= given: using {DEFAULT_MODEL}.")
        model = DEFAULT_MODEL
    return YOLO(model)


def _predict(options: CheckedOptions) -> None:
    options.setdefault("save", True)
    source = options.pop("source", None)
    if source is None:
        raise UsageError("Prediction needs images: give source=image.jpg, a folder, a glob or a list.")
    if options.get("embed") is not None:
        raise UsageError("predict(embed=…) returns vectors in Python; here use yolo embed source=… layers=….")
    _run_all(_open(options)._predict(source, options))


def _track(options: CheckedOptions) -> None:
    from yolopose.track import check_tracker

    source = options.pop("source", None)
    if options.get("resume") is not None:
        from yolopose.predict.resume import read_unfinished

        options.setdefault("model", read_unfinished(options["resume"]).model)
        _run_all(_open(options)._track(source, options))
        return
    options.setdefault("save", True)
    if source is None:
        raise UsageError("Tracking needs a video: give source=video.mp4, a stream, a camera number or a folder.")
    check_tracker(options.get("tracker", TrackOptions.tracker))  # fail before the seconds that loading a network takes
    _run_all(_open(options)._track(source, options))


def _run_all(results: Iterator[Results]) -> None:
    """Consume all results; report images that could not be read."""
    total = 0
    failed = 0
    for result in results:
        total += 1
        failed += bool(result.error)
    if failed and failed == total:
        raise SourceError(f"None of the {total} images could be read; see the reasons above.")
    if failed:
        LOGGER.warning(f"{failed} of {total} images could not be read; see above for their names.")


def _embed(options: CheckedOptions) -> None:
    from yolopose.predict.embedding_index import EmbeddingIndex

    source = options.pop("source", None)
    if source is None:
        raise UsageError(
            "Embedding needs images: give source=images/ to write their vectors, or source=query.jpg index=FILE.npz to "
            "find the images nearest to a query."
        )
    if options.get("index") is not None:
        origin = EmbeddingIndex.load(options["index"]).origin
        options.setdefault("model", origin.model)
    _open(options)._embed_files(source, options)


def _val(options: CheckedOptions) -> None:
    _open(options)._val(options)


def _train(options: CheckedOptions) -> None:
    from yolopose.model.fold_plan import fold_run_model, is_fold_run

    if is_worker_rank():
        from yolopose.train import worker_main

        worker_main()
        return
    if is_fold_run(options.get("resume")):
        options.setdefault("model", fold_run_model(options["resume"]))
    elif isinstance(options.get("resume"), str):  # the file to resume is the model
        options.setdefault("model", options["resume"])
    elif options.get("resume") and not options.get("model"):
        from yolopose.train.setup import nothing_to_resume

        raise nothing_to_resume("no model was given")
    _open(options)._train(options)


def _calibrate(options: CheckedOptions) -> None:
    _open(options)._calibrate(options)


def _tune(options: CheckedOptions) -> None:
    if isinstance(options.get("resume"), str):
        from yolopose.model.tuning.plan import search_model

        options.setdefault("model", search_model(options["resume"]))
    _open(options)._tune(options)


def _export(options: CheckedOptions) -> None:
    from yolopose.formats import get_format

    get_format(options.get("format", ExportOptions.format))  # fail before the seconds that loading a network takes
    _open(options)._export(options)


def _benchmark(options: CheckedOptions) -> None:
    from yolopose.formats import get_format

    if options.get("format"):
        get_format(options["format"])
    _open(options)._benchmark(options)


def _convert(given: CheckedOptions) -> None:
    from yolopose.data.convert import convert, convert_coco, export_coco

    options = cast(ConvertOptions, make_options("convert", given))
    if (options.source is None) == (options.data is None):
        raise UsageError(
            "Give either source=annotations/ (annotations of any format, to write labels) or data=my.yaml (labels, to "
            "write COCO JSON); to= is the format to write."
        )
    if options.data is not None and options.to is None:
        split = options.split or "val"
        export_coco(options.data, split, options.output or f"{split}.json")
        return
    source = str(options.source or options.data)
    others = set(given) - {"source", "output", "images"}
    if not others and _is_coco(Path(source)):
        convert_coco(source, options.output or "coco_converted", images_dir=options.images)
        return
    to = options.to or "yolo"
    values: dict[str, Any] = {name: given[name] for name in _FORMAT_OPTIONS if given.get(name) is not None}
    convert(
        source,
        options.output or f"{to}_converted",
        to=to,
        source_format=options.source_format,
        images=options.images,
        split=options.split,
        copy_images=options.copy_images,
        kpt_dims=options.kpt_dims,
        kpt_names=_names(options.kpt_names),
        classes=_names(options.class_names),
        url=options.url or "",
        **values,
    )


_FORMAT_OPTIONS = (
    "min_conf", "hidden", "predicted", "class_key", "keypoint_key", "instance_key", "visibility_key"
)  # fmt: skip
"""Options of one format, which its module documents."""


def _is_coco(source: Path) -> bool:
    """Return whether the source is COCO, or so far from any format that the message about COCO files helps most."""
    from yolopose.data.convert import detect_format
    from yolopose.data.paths import require_unpacked

    require_unpacked(source)
    try:
        return detect_format(source).name == "coco"
    except (DataError, NotFoundError):
        return True


def _names(text: str | None) -> list[str]:
    """Split names at commas; brackets around them are optional."""
    return [name.strip().strip("'\"") for name in (text or "").strip("[]").split(",") if name.strip()]


def _compare(given: CheckedOptions) -> None:
    from yolopose.evaluate import compare_runs

    options = cast(CompareOptions, make_options("compare", given))
    if options.a is None or options.b is None:
        raise UsageError("Give the folders of two validation runs: yolo compare a=runs/pose/val b=runs/pose/val2.")
    print(compare_runs(options.a, options.b))


def _report(given: CheckedOptions) -> None:
    from yolopose.evaluate.page import make_report

    options = cast(ReportOptions, make_options("report", given))
    if options.run is None:
        raise UsageError("Give the folder of a run of val or train: yolo report run=runs/pose/val.")
    print(f"Wrote {make_report(options.run, options.images)}")


def _label(options: CheckedOptions) -> None:
    source = options.pop("source", None)
    if source is None:
        raise UsageError("Labeling needs images: give source=images/, a file, a glob, a video or a list.")
    _open(options)._label(source, options)


def _doctor(given: CheckedOptions) -> None:
    options = cast(DoctorOptions, make_options("doctor", given))
    if options.data is not None:
        from yolopose.tools.data_doctor import doctor

        doctor(options)
        return
    if given:
        raise UsageError(f"The doctor needs a data set for {', '.join(given)}: give data=my-data.yaml.")
    from yolopose.tools.doctor import environment_report

    print(environment_report())


def _batch(given: CheckedOptions) -> None:
    from yolopose.jobs import run_checked

    run_checked(given)


def _serve(given: CheckedOptions) -> None:
    from yolopose.serve import serve

    serve(cast(ServeOptions, make_options("serve", given)))


def _triton(given: CheckedOptions) -> None:
    from yolopose.serve.triton import write_repository

    options = cast(TritonOptions, make_options("triton", given))
    if options.model is None:
        raise UsageError("Give an ONNX file: yolo triton model=yolo11n-pose.onnx output=model_repository.")
    print(f"Wrote {write_repository(options)}")


RUN_MODE: dict[str, Callable[[CheckedOptions], None]] = {
    "train": _train,
    "val": _val,
    "tune": _tune,
    "calibrate": _calibrate,
    "predict": _predict,
    "track": _track,
    "embed": _embed,
    "export": _export,
    "benchmark": _benchmark,
    "convert": _convert,
    "compare": _compare,
    "report": _report,
    "label": _label,
    **DATA_MODES,
    "evaluate": evaluate,
    "smooth": smooth,
    "doctor": _doctor,
    "batch": _batch,
    "serve": _serve,
    "triton": _triton,
}
"""Function of each mode; takes the checked options of the command line."""
