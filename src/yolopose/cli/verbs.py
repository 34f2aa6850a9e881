"""The modes of the command line: what `yolo train`, `val`, `predict`, `export`, … do with the options of a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from yolopose.base.errors import SourceError, UsageError
from yolopose.base.launch_env import is_worker_rank
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings
from yolopose.config import CompareOptions, ConvertOptions, ExportOptions, ReportOptions, check_options, make_options
from yolopose.formats import get_format

DEFAULT_MODEL = "yolo11n-pose.pt"

Options = dict[str, Any]


def _open(options: Options) -> Any:
    from yolopose.model import YOLO  # torch and OpenCV are loaded here and not for help

    model = options.pop("model", None)
    if model is None:
        LOGGER.info(f"No model= given: using {DEFAULT_MODEL}.")
        model = DEFAULT_MODEL
    return YOLO(model)


def _predict(given: Options) -> None:
    # keys are checked before the seconds that loading a network takes
    options = {"save": True, **check_options("predict", given), "stream": True}
    source = options.pop("source", None)
    if source is None:
        raise UsageError("Prediction needs images: give source=image.jpg, a folder, a glob or a list.")
    total = failed = 0
    for result in _open(options).predict(source, **options):
        total += 1
        failed += bool(result.error)
    if failed and failed == total:
        raise SourceError(f"None of the {total} images could be read; the reasons stand above.")
    if failed:
        LOGGER.warning(f"{failed} of {total} images could not be read; they are named above.")


def _val(given: Options) -> None:
    options = check_options("val", given)
    _open(options).val(**options)


def _train(given: Options) -> None:
    options = check_options("train", given)
    if is_worker_rank():
        from yolopose.train import worker_main

        worker_main()
        return
    if isinstance(options.get("resume"), str):  # the file to resume is the model
        options.setdefault("model", options["resume"])
    elif options.get("resume") and not options.get("model"):
        from yolopose.train.setup import nothing_to_resume

        raise nothing_to_resume("none was named", Path(load_settings().runs_dir))
    _open(options).train(**options)


def _export(given: Options) -> None:
    options = check_options("export", given)
    get_format(options.get("format", ExportOptions.format))  # before the seconds that loading a network takes
    _open(options).export(**options)


def _benchmark(given: Options) -> None:
    options = check_options("benchmark", given)
    if options.get("format"):
        get_format(options["format"])
    _open(options).benchmark(**options)


def _convert(given: Options) -> None:
    from yolopose.data.convert import convert_coco, export_coco

    options = make_options("convert", check_options("convert", given))
    assert isinstance(options, ConvertOptions)  # noqa: S101  # the table of modes and this file must agree
    if (options.source is None) == (options.data is None):
        raise UsageError(
            "Give source=annotations/ (COCO JSON, to make labels) or data=my.yaml (labels, to make COCO JSON), "
            "one of the two."
        )
    if options.source is not None:
        convert_coco(options.source, options.output or "coco_converted", images_dir=options.images)
    else:
        export_coco(str(options.data), options.split, options.output or f"{options.split}.json")


def _compare(given: Options) -> None:
    from yolopose.evaluate import compare_runs

    options = make_options("compare", check_options("compare", given))
    assert isinstance(options, CompareOptions)  # noqa: S101  # the table of modes and this file must agree
    if options.a is None or options.b is None:
        raise UsageError("Give the folders of two runs of val: yolo compare a=runs/pose/val b=runs/pose/val2.")
    print(compare_runs(options.a, options.b))


def _report(given: Options) -> None:
    from yolopose.evaluate.page import make_report

    options = make_options("report", check_options("report", given))
    assert isinstance(options, ReportOptions)  # noqa: S101  # the table of modes and this file must agree
    if options.run is None:
        raise UsageError("Give the folder of a run of val or train: yolo report run=runs/pose/val.")
    print(f"Wrote {make_report(options.run, options.images)}")


VERBS: dict[str, Callable[[Options], None]] = {
    "train": _train,
    "val": _val,
    "predict": _predict,
    "export": _export,
    "benchmark": _benchmark,
    "convert": _convert,
    "compare": _compare,
    "report": _report,
}
"""What runs a mode, by its name; takes the keys and values of the line."""
