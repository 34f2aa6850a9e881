"""Export, whatever the format: options settled, the file written, its numbers compared with the network's own."""

from __future__ import annotations

from yolopose.nn import PoseModel  # it loads torch in the way that is wanted, so it comes first

# isort: split
import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from time import perf_counter
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from yolopose.base.errors import ExportError, UsageError, WeightsError
from yolopose.base.files import atomic_folder, atomic_path
from yolopose.base.log import LOGGER
from yolopose.config import ExportOptions
from yolopose.data.images import letterbox_batch
from yolopose.formats.agreement import NOTHING, Agreement, Simulated, of_best, of_cells, of_detections
from yolopose.formats.calibration import Calibration, calibration_for
from yolopose.formats.graph_runtime import GraphRuntime
from yolopose.formats.levels import LEVELS, by_levels, level_names
from yolopose.formats.registry import Format, formats_with, get_format, packages_to_write, require_packages
from yolopose.formats.suppression import Suppression, suppressed
from yolopose.geometry import Letterbox
from yolopose.runtime import Batch
from yolopose.schema import ModelMetadata
from yolopose.toolchains import require_toolchain

_ANY = ("model", "device", "imgsz", "verbose", "format", "name")  # keys that go with every format
_INSIDE = ("conf", "iou", "max_det", "agnostic_nms", "classes")  # that nms=True heeds
_FITTING = ("data", "split", "fraction")  # that int8=True heeds
# what may differ from torch by the bits of the numbers, in pixels and in 0…1; sums are taken in another order, and
# fewer bits round by themselves
_LIMITS = {32: (0.1, 0.001), 16: (6.0, 0.05), 8: (64.0, 0.3)}
_WHOLE_NUMBERS = (64.0, 0.5)  # 8 bits from end to end, the first layers and the last ones too
# share of the best score in an image that a cell must have for its box and points to be compared, by the bits
_LEAST = {32: 0.0, 16: 0.25, 8: 0.25}
_BITS = {"8": 8, "int8": 8, "w8a8": 8, "16": 16, "fp16": 16, "w16a16": 16, "32": 32, "fp32": 32}

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportJob:
    """What a format's `export` is given.

    Attributes:
        network: fused, in evaluation mode, on the CPU, float32.
        metadata: the record for the file: classes, keypoints, input size, batch, whether other sizes go.
        options: what was asked for.
        half: whether to compute in float16.
        suppression: what `nms=True` keeps, None without it.
        calibration: images to fit 8-bit numbers to, None where they are not asked for.
        image: (H, W, 3) uint8 BGR, on which a file must compute what the network does.
    """

    network: PoseModel
    metadata: ModelMetadata
    options: ExportOptions
    half: bool
    suppression: Suppression | None = None
    calibration: Calibration | None = None
    image: Image

    @property
    def bits(self) -> int:
        """Of the file's numbers: 8, 16 or 32."""
        return 8 if self.calibration else 16 if self.half else 32

    @property
    def precision(self) -> str:
        """The same in words, for the log."""
        if self.calibration:
            return f"int8 fitted to {self.calibration.words}"
        return "float16" if self.half else "float32"

    @property
    def outputs(self) -> list[str]:
        """Names of what `module` gives."""
        dims = self.metadata.spec.keypoints.dims
        return level_names(self.network.stride, dims) if self.metadata.outputs == LEVELS else ["output0"]

    def compare(self, written: GraphRuntime) -> Agreement:
        """Compare an engine with the network on the image.

        Raises:
            ExportError: they differ by more than rounding.
        """
        return _compare(self, written, self.image)

    def module(self) -> nn.Module:
        """Return what is to be converted: (B, 3, H, W) float32 0…1 → float32 as `metadata` says of its output."""
        if self.metadata.outputs == LEVELS:
            return by_levels(self.network)
        size = None if self.metadata.dynamic else self.metadata.imgsz
        decoded = _Decoded(self.network, self.half, size).eval()
        if self.suppression is None:
            return decoded
        return suppressed(decoded, self.network, self.metadata, self.suppression)


class _Decoded(nn.Module):
    """A network with float32 at both ends; positions are computed in float32 whatever runs between.

    Args:
        network: the network.
        half: whether it computes in float16 between.
        imgsz: (height, width) that its anchors are constants for; None where the graph shall compute them.
    """

    def __init__(self, network: PoseModel, half: bool, imgsz: tuple[int, int] | None) -> None:
        super().__init__()
        # the order that training may have left the weights in would show in the graph, and ExecuTorch not bear it
        plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        self.network, self.in_half = plain.half() if half else plain, half
        if imgsz is not None:
            self.network.head.fix_anchors(network.infer_shapes(*imgsz))

    def forward(self, images: Tensor) -> Tensor:
        # `type_as` instead of a fixed kind of numbers: who opens the graph may widen its weights, and it follows
        values = images.type_as(next(self.network.parameters())) if self.in_half else images
        return self.network.head.decode(self.network.outputs(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """A file that an export has written.

    Attributes:
        path: the file or folder.
        title: of its format.
        words: a few, on what is in it.
        metadata: its record.
        agreement: how far what it computes is from what the network does; None where this system cannot run it.
        checked: a sentence on how that was found, or on what was checked instead.
        megabytes: its size.
        seconds: that the export took.
        usage: lines on what it is used with beside predict and val, each after a line break; mostly none.
    """

    path: Path
    title: str
    words: str
    metadata: ModelMetadata
    agreement: Agreement | None
    checked: str
    megabytes: float
    seconds: float
    usage: str = ""


def export_network(
    network: PoseModel, metadata: ModelMetadata, options: ExportOptions, stem: Path, image: Image, data: str | None
) -> Path:
    """Write a network in another format, and says what was written and how to use it; see `write_network`.

    Returns:
        The path of the file or folder.
    """
    written = write_network(network, metadata, options, stem, image, data)
    path, settled = written.path, written.metadata
    batch = "any number" if settled.dynamic else settled.batch
    sides = "any size" if settled.dynamic else f"{settled.imgsz[0]} × {settled.imgsz[1]}"
    LOGGER.info(
        f"Wrote {path} ({written.title}, {written.words}, {written.megabytes:.1f} MB, input {batch} × 3 × {sides}) in "
        f"{written.seconds:.1f} s.\n{written.checked}\n{_usage(path, settled.imgsz, data)}{written.usage}"
    )
    return path


def write_network(
    network: PoseModel, metadata: ModelMetadata, options: ExportOptions, stem: Path, image: Image, data: str | None
) -> ExportResult:
    """Write a network in another format and compares it with the network.

    Args:
        network: left as it is.
        metadata: what is known of it.
        options: format, input size, batch, ….
        stem: the file to write, without its suffix.
        image: (H, W, 3) uint8 BGR, on which the file must compute what the network does.
        data: data YAML of the network's training; 8-bit numbers are fitted to its images where no other is named.

    Raises:
        UsageError: an option does not go with the format.
        DependencyError: the converter is not installed.
        ExportError: the network cannot be converted, or the file computes something else; nothing is left of it.
        OutputError: the file cannot be written.
    """
    start = perf_counter()
    row = get_format(options.format)
    _check_options(row, options)
    if row.int8_only and bits_of(options) == 32:
        options = replace(options, int8=True)
    eight = bits_of(options) == 8
    what = f"Export to {row.title}{' with int8=True' if eight and row.int8_requires else ''}"
    require_packages(packages_to_write(row, eight), what)
    # what runs it as well: the file is compared before it is kept
    for toolchain in dict.fromkeys((row.toolchain, row.int8_toolchain if eight else "", row.run_toolchain)):
        if toolchain:
            require_toolchain(toolchain, what)
    job = _job(network, metadata, options, data, image)
    module = import_module(f"yolopose.formats.{row.module}")
    target = Path(f"{stem}{row.suffixes[0]}")
    with (atomic_folder if row.folder else atomic_path)(target) as temporary:
        words, agreement, checked = _told(job, row, module, module.export(job, temporary), temporary)
    return ExportResult(
        path=target, title=row.title, words=words, metadata=job.metadata, agreement=agreement, checked=checked,
        megabytes=_size_of(target), seconds=perf_counter() - start, usage=getattr(module, "usage", _no_usage)(target),
    )  # fmt: skip


def _no_usage(path: Path) -> str:
    del path
    return ""


def _told(
    job: ExportJob, row: Format, module: ModuleType, words: str | Simulated, path: Path
) -> tuple[str, Agreement | None, str]:
    """What was written, how it agrees with the network, and how that was found.

    Raises:
        ExportError: it computes something else.
    """
    if isinstance(words, Simulated):
        return words.words, words.agreement, words.checked
    if not row.runs_on_platform:
        return words, None, module.inspect(job, path)
    agreement = job.compare(_opened(module, path))
    return words, agreement, f"Compared with torch on an image: {agreement}."


def _opened(module: ModuleType, path: Path) -> GraphRuntime:
    """The engine of what was just written.

    Raises:
        ExportError: it does not open.
    """
    try:
        return module.load(path)
    except WeightsError as error:
        raise ExportError(f"What was written does not run, and was removed. {error}") from error


def _size_of(path: Path) -> float:
    """Size of a file, or of all files in a folder, in MB."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()) / 1e6


def _job(
    network: PoseModel, metadata: ModelMetadata, options: ExportOptions, data: str | None, image: Image
) -> ExportJob:
    """What a format is given, from what was asked for."""
    end2end = options.nms is False and network.supports_end2end if options.end2end is None else options.end2end
    if end2end and options.nms:
        raise UsageError(
            "nms=True puts suppression behind a network, and end2end=True takes one that needs none: choose."
        )
    plain = copy.deepcopy(network).cpu().float().eval().select_output(end2end, options.uncertainty)
    plain = plain.fuse().requires_grad_(False)
    inside = Suppression.of(options, metadata.spec.names) if options.nms else None
    settled = replace(
        metadata,
        imgsz=_size(options, metadata.stride),
        dynamic=options.dynamic,
        batch=0 if options.dynamic else options.batch,
        end2end=end2end or inside is not None,
        uncertainty=options.uncertainty,
        args={"nms": inside.to_dict()} if inside else {},
    )
    bits = bits_of(options)
    calibration = calibration_for(options, settled, data) if bits == 8 else None
    return ExportJob(
        network=plain, metadata=settled, options=options, half=bits == 16, suppression=inside, calibration=calibration,
        image=image,
    )  # fmt: skip


def _usage(path: Path, imgsz: Sequence[int], data: str | None) -> str:
    """Return the commands that a user may want next."""
    size = imgsz[0] if imgsz[0] == imgsz[-1] else f"{imgsz[0]},{imgsz[-1]}"
    name = f'"{path}"' if " " in str(path) else path
    return (
        f"Predict:   yolo pose predict model={name} source=IMAGES imgsz={size}\n"
        f"Validate:  yolo pose val model={name} data={data or 'DATA.yaml'} imgsz={size}"
    )


def bits_of(options: ExportOptions) -> int:
    """Return how many bits the file's numbers have, in whichever spelling that is asked for: 8, 16 or 32.

    Raises:
        UsageError: weights and sums of different kinds are asked for, which no format here has.
    """
    kind = str(options.quantize).lower()
    if options.quantize is not None and kind not in _BITS:
        raise UsageError(
            f"quantize={options.quantize} (weights of another kind than what they are multiplied with) is in no "
            f"format of this version; there are quantize={', '.join(_BITS)}."
        )
    if options.quantize is not None:
        return _BITS[kind]
    return 8 if options.int8 else 16 if options.half else 32


def _check_options(row: Format, options: ExportOptions) -> None:
    """Raise an error for what this format has not, and names what is given in vain.

    Raises:
        UsageError: an option is not one of this format; the text says which formats have it.
    """
    given = {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if field.name not in (*_ANY, *_INSIDE, *_FITTING, "half", "int8", "quantize")
        and not field.metadata["unread"]  # the check of options has named it
        and getattr(options, field.name) != field.default
        and not (field.name == "nms" and not options.nms)
    }
    bits = bits_of(options)
    if bits < 32:
        given["int8" if bits == 8 else "half"] = True
    for name, value in given.items():
        if name not in row.options:
            others = formats_with(name)
            where = f"these have: {', '.join(others)}" if others else "nor has any other format here"
            raise UsageError(
                f"{name}={value}: {row.title} has no such option; {where}. Leave it out, or change format=."
            )
    idle = () if options.nms else _INSIDE
    idle = idle if bits == 8 else (*idle, "fraction", "split")
    values = {field.name: (getattr(options, field.name), field.default) for field in fields(options)}
    vain = [f"{name}={values[name][0]}" for name in idle if values[name][0] != values[name][1]]
    if vain:
        LOGGER.warning(f"{', '.join(vain)}: heeded with {'nms' if not options.nms else 'int8'}=True alone.")


def _size(options: ExportOptions, stride: int) -> tuple[int, int]:
    sides = (options.imgsz,) if isinstance(options.imgsz, int) else tuple(options.imgsz)
    height, width = (-(-side // stride) * stride for side in (sides[0], sides[-1]))
    if (height, width) != (sides[0], sides[-1]):
        LOGGER.warning(f"imgsz={options.imgsz} is rounded up to {[height, width]}: multiples of the stride {stride}.")
    return height, width


def _compare(job: ExportJob, written: GraphRuntime, image: Image) -> Agreement:
    """Run file and network on an image, in every kind of input that the file says to take.

    Raises:
        ExportError: they differ by more than rounding.
    """
    whole = job.bits == 8 and written.metadata.outputs == LEVELS
    pixels, share = _WHOLE_NUMBERS if whole else _LIMITS[job.bits]
    least = _LEAST[job.bits]
    worst, rules = NOTHING, job.suppression
    network = suppressed(job.network, job.network, job.metadata, rules) if rules else job.network
    for batch in _batches(job, image):
        with torch.inference_mode():
            expected = network(torch.from_numpy(batch).float().div_(255)).numpy()
        found = written.raw(batch)
        if found.shape != expected.shape:
            raise ExportError(f"The file gives {found.shape} where the network gives {expected.shape}; it was removed.")
        if rules:
            apart = of_detections(found, expected, job.metadata, rules.conf, share, least)
        elif job.metadata.end2end:
            apart = of_best(found, expected, job.metadata, least)
        else:
            apart = of_cells(found, expected, job.metadata, least)
        worst = worst.worse(apart)
    if not worst.within(pixels, share):
        raise ExportError(
            f"The file does not compute what the network does ({worst}; at most {pixels:g} px and {share:g} are "
            "rounding), and was removed. format=onnx with another opset or simplify=False may serve."
        )
    return worst


def _batches(job: ExportJob, image: Image) -> list[Batch]:
    """The image as the file's inputs: its one size, or the whole size and a small rectangle in twos."""
    metadata, source = job.metadata, (image.shape[0], image.shape[1])
    whole = Letterbox.fit(source, metadata.imgsz)
    batches = [letterbox_batch([image] * (metadata.batch or 1), [whole] * (metadata.batch or 1))]
    if metadata.dynamic:
        height, width = (-(-side // (2 * metadata.stride)) * metadata.stride for side in metadata.imgsz)
        half = height, width
        part = Letterbox.fit(source, half, auto=True, stride=metadata.stride)
        batches.append(letterbox_batch([image] * 2, [part] * 2))
    return batches
