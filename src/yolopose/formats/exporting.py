"""Export to any format: resolve the options, write the file, compare it with the network, log how to use it."""

from __future__ import annotations

from yolopose.nn import PoseModel  # first: it sets how torch is loaded

# isort: split
import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import ExportError, UsageError, WeightsError, YoloposeError
from yolopose.base.files import atomic_folder, atomic_path
from yolopose.base.log import LOGGER
from yolopose.config import PREDICT_CONF, ExportOptions, ExportSettings, export_settings
from yolopose.formats.agreement import Agreement, compare_with_torch
from yolopose.formats.export_modules import NmsConfig
from yolopose.formats.int8 import load_calibration
from yolopose.formats.metadata import calibration_of, first_line
from yolopose.formats.protocol import ExportJob, ExportReport, Format
from yolopose.formats.registry import formats_with, get_format, require_packages
from yolopose.schema import ModelMetadata
from yolopose.toolchains import require_toolchain

_COMMON_OPTIONS = ("model", "device", "imgsz", "verbose", "format", "name")  # valid for every format
_NMS_OPTIONS = ("conf", "iou", "max_det", "agnostic_nms", "classes")  # used with nms=True
_INT8_OPTIONS = ("data", "split", "fraction")  # used with int8=True

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """An exported file.

    Attributes:
        path: the file or folder.
        title: title of its format.
        summary: a few words on its content.
        metadata: its metadata.
        agreement: differences to the network; None if this system cannot run the file.
        check: a sentence on the comparison, or on what was checked instead.
        megabytes: size of the file.
        seconds: duration of the export.
        usage: lines on uses in addition to predict and val.
    """

    path: Path
    title: str
    summary: str
    metadata: ModelMetadata
    agreement: Agreement | None
    check: str
    megabytes: float
    seconds: float
    usage: str = ""


def export_network(
    network: PoseModel, metadata: ModelMetadata, options: ExportOptions, stem: Path, image: Image, data: str | None
) -> Path:
    """Write a network in another format and log the result; see `write_network`.

    Returns:
        The path of the file or folder.
    """
    result = write_network(network, metadata, options, stem, image, data)
    path, imgsz = result.path, result.metadata.imgsz
    batch = "any number" if result.metadata.dynamic else result.metadata.batch
    size = "any size" if result.metadata.dynamic else f"{imgsz[0]} × {imgsz[1]}"
    shape = f"{batch} × {result.metadata.spec.channels} × {size}"
    LOGGER.info(
        f"Wrote {path} ({result.title}, {result.summary}, {result.megabytes:.1f} MB, input {shape}) in "
        f"{result.seconds:.1f} s.\n{result.check}\n{_usage(path, imgsz, data)}{result.usage}"
    )
    return path


def write_network(
    network: PoseModel, metadata: ModelMetadata, options: ExportOptions, stem: Path, image: Image, data: str | None
) -> ExportResult:
    """Write a network in another format and compare the file with the network.

    Args:
        network: the network; it is not changed.
        metadata: metadata of the weights.
        options: format, input size, batch, ….
        stem: path of the file without its suffix.
        image: (H, W, 3) uint8 BGR or (H, W, 4) BGRA image for the comparison.
        data: data YAML of the network's training, for 8-bit calibration if no other is given.

    Raises:
        UsageError: the format does not support an option.
        DependencyError: the converter is not installed.
        ExportError: the network cannot be converted, or the file does not reproduce it; the file is removed.
        OutputError: the file cannot be written.
    """
    start = perf_counter()
    entry = get_format(options.format)
    info = entry.info
    settings = export_settings(options, metadata)
    _check_options(entry, settings)
    if info.rgb_only and network.spec.channels != 3:
        raise UsageError(
            f"{info.title} files hold networks for color images, but {network.name or 'this network'} reads "
            f"{network.spec.channels} channels. Choose another format=, such as onnx, openvino or torchscript."
        )
    if info.int8_only and settings.bits == 32:
        settings = replace(settings, int8=True, bits=8)
    _check_requirements(entry, settings.bits == 8)
    job = _create_job(network, metadata, settings, data, image)
    target = Path(f"{stem}{info.suffixes[0]}")
    with (atomic_folder if info.folder else atomic_path)(target) as temporary:
        report = _check_file(job, entry, entry.export(job, temporary), temporary)
    return ExportResult(
        path=target,
        title=info.title,
        summary=report.summary,
        metadata=job.metadata,
        agreement=report.agreement,
        check=report.check,
        megabytes=_megabytes(target),
        seconds=perf_counter() - start,
        usage=report.usage.replace("{path}", _quote(target)),
    )


def _check_requirements(entry: Format, int8: bool) -> None:
    """Check that packages and toolchains are installed, those that run the file included: it is compared."""
    info = entry.info
    what = f"Export to {info.title}{' with int8=True' if int8 and info.int8_requires else ''}"
    require_packages(info.packages_to_export(int8), what)
    for toolchain in dict.fromkeys((info.toolchain, info.int8_toolchain if int8 else "", info.run_toolchain)):
        if toolchain:
            require_toolchain(toolchain, what)


def _create_job(
    network: PoseModel, metadata: ModelMetadata, settings: ExportSettings, data: str | None, image: Image
) -> ExportJob:
    end2end = settings.end2end
    if end2end is None:
        end2end = settings.nms is False and network.supports_end2end
    if end2end and settings.nms:
        raise UsageError(
            "nms=True adds NMS to the network, end2end=True selects an output that does not need it: use one of them."
        )
    plain = copy.deepcopy(network).cpu().float().eval().select_output(end2end, settings.uncertainty)
    metadata = replace(metadata, calibration=calibration_of(metadata, end2end))
    plain = plain.scale_confidences(metadata.calibration).fuse().requires_grad_(False)
    nms = NmsConfig.from_settings(settings) if settings.nms else None
    metadata = replace(
        metadata,
        imgsz=settings.imgsz,
        dynamic=settings.dynamic,
        batch=0 if settings.dynamic else settings.batch,
        end2end=end2end or nms is not None,
        uncertainty=settings.uncertainty,
        args={"nms": nms.to_dict()} if nms else {},
    )
    return ExportJob(
        network=plain,
        metadata=metadata,
        settings=settings,
        half=settings.bits == 16,
        nms=nms,
        calibration=load_calibration(settings, metadata, data) if settings.bits == 8 else None,
        image=image,
    )


def _check_file(job: ExportJob, entry: Format, report: ExportReport, path: Path) -> ExportReport:
    """Compare the file with the network, unless the format has already checked it.

    Raises:
        ExportError: the file cannot be opened, has other metadata, or does not reproduce the network.
    """
    if report.check:
        return report
    try:
        runtime = entry.load(path)
    except WeightsError as error:
        raise ExportError(f"The exported file does not run and was removed. {error}") from error
    except YoloposeError:
        raise
    except Exception as error:  # a format of another package may raise anything
        raise ExportError(
            f"The format {entry.info.name} cannot open the file it wrote: {type(error).__name__}: {first_line(error)} "
            "The file was removed."
        ) from error
    _check_metadata(runtime.metadata, job.metadata, entry.info.name)
    if not hasattr(runtime, "raw"):
        return replace(report, check=f"Not compared with torch: the engine of {entry.info.title} has no method raw.")
    agreement = compare_with_torch(job, runtime)  # type: ignore[arg-type]  # it has the methods that are used
    return replace(report, agreement=agreement, check=f"Compared with torch on an image: {agreement}.")


def _check_metadata(actual: ModelMetadata, expected: ModelMetadata, name: str) -> None:
    """Check what the engine of a file reports; a wrong value would give wrong results without an error."""
    pairs = {
        "imgsz": (list(actual.imgsz), list(expected.imgsz)),
        "stride": (actual.stride, expected.stride),
        "channels": (actual.spec.channels, expected.spec.channels),
        "kpt_shape": (list(actual.spec.keypoints.shape), list(expected.spec.keypoints.shape)),
        "number of classes": (actual.spec.nc, expected.spec.nc),
    }
    differences = [f"{key} is {value}, not {wanted}" for key, (value, wanted) in pairs.items() if value != wanted]
    if differences:
        raise ExportError(
            f"The metadata of the exported file differs from that of the network: {'; '.join(differences)}. The file "
            f"was removed. This is a fault of the format {name}: its `load` must return an engine with the metadata "
            "that its `export` received."
        )


def _megabytes(path: Path) -> float:
    """Return the size of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()) / 1e6


def _quote(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)


def _usage(path: Path, imgsz: Sequence[int], data: str | None) -> str:
    """Return the next commands that a user may need."""
    size = imgsz[0] if imgsz[0] == imgsz[-1] else f"{imgsz[0]},{imgsz[-1]}"
    return (
        f"Predict:   yolo pose predict model={_quote(path)} source=IMAGES imgsz={size}\n"
        f"Validate:  yolo pose val model={_quote(path)} data={data or 'DATA.yaml'} imgsz={size}"
    )


def _check_options(entry: Format, settings: ExportSettings) -> None:
    """Reject options that the format does not support, and warn of those without effect.

    Raises:
        UsageError: an option is not supported; the message names formats that support it.
    """
    option_fields = {field.name: field for field in fields(ExportOptions)}
    # `conf` is resolved in the settings, which is its default
    defaults = {name: field.default for name, field in option_fields.items()} | {"conf": PREDICT_CONF}
    changed = {name: getattr(settings, name) for name in defaults if getattr(settings, name) != defaults[name]}
    ignored = {*_COMMON_OPTIONS, *_NMS_OPTIONS, *_INT8_OPTIONS, "half", "int8", "quantize"}
    requested = {
        name: value
        for name, value in changed.items()
        # options of other versions (unread) were reported when the options were checked
        if name not in ignored and not option_fields[name].metadata["unread"] and not (name == "nms" and not value)
    }
    if settings.bits < 32:
        requested["int8" if settings.bits == 8 else "half"] = True
    for name, value in requested.items():
        if name not in entry.info.options:
            others = formats_with(name)
            hint = f"these support it: {', '.join(others)}" if others else "no format supports it"
            raise UsageError(
                f"{name}={value} is not supported by {entry.info.title}; {hint}. Omit it, or change format=."
            )
    unused = () if settings.nms else _NMS_OPTIONS
    unused = unused if settings.bits == 8 else (*unused, "fraction", "split")
    without_effect = [f"{name}={changed[name]}" for name in unused if name in changed]
    if without_effect:
        needed = "nms" if not settings.nms else "int8"
        LOGGER.warning(f"{', '.join(without_effect)}: only used with {needed}=True.")
