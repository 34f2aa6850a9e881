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

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from yolopose.base.errors import ExportError, UsageError
from yolopose.base.files import atomic_folder, atomic_path
from yolopose.base.log import LOGGER
from yolopose.config import ExportOptions
from yolopose.data.letterboxing import letterbox_batch
from yolopose.formats.table import Format, format_named, need_packages
from yolopose.geometry import Letterbox
from yolopose.runtime import Batch
from yolopose.schema import ModelMetadata

_ANY = ("model", "device", "imgsz", "verbose", "format")  # keys that go with every format
_SHOWN = 20  # cells compared in a picture: those that score highest, of which detections are made
# what may differ from torch, in pixels and in 0…1; sums are taken in another order, 16 bits round by themselves
_LIMITS = {False: (0.1, 0.001), True: (6.0, 0.05)}

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportJob:
    """What a format's `export` is given.

    Attributes:
        network: fused, in evaluation mode, on the CPU, float32.
        metadata: the record for the file: classes, keypoints, input size, batch, whether other sizes go.
        options: what was asked for.
        half: whether to compute in float16.
    """

    network: PoseModel
    metadata: ModelMetadata
    options: ExportOptions
    half: bool

    def module(self) -> nn.Module:
        """Returns what is to be converted: (B, 3, H, W) float32 0…1 → float32 as `metadata` says of its output."""
        return _Decoded(self.network, self.half).eval()


class _Decoded(nn.Module):
    """A network with float32 at both ends; positions are computed in float32 whatever runs between."""

    def __init__(self, network: PoseModel, half: bool) -> None:
        super().__init__()
        self.dtype = torch.float16 if half else torch.float32
        self.network = copy.deepcopy(network).to(self.dtype)

    def forward(self, images: Tensor) -> Tensor:
        return self.network.head.decode(self.network.outputs(images.to(self.dtype)))


def export_network(
    network: PoseModel, metadata: ModelMetadata, options: ExportOptions, stem: Path, picture: Picture, data: str | None
) -> Path:
    """Writes a network in another format and compares it with the network.

    Args:
        network: left as it is.
        metadata: what is known of it.
        options: format, input size, batch, ….
        stem: the file to write, without its suffix.
        picture: (H, W, 3) uint8 BGR, on which the file must compute what the network does.
        data: data YAML, for the words about how to validate.

    Returns:
        The path of the file or folder.

    Raises:
        UsageError: an option does not go with the format.
        DependencyError: the converter is not installed.
        ExportError: the network cannot be converted, or the file computes something else; nothing is left of it.
        OutputError: the file cannot be written.
    """
    start = perf_counter()
    row = format_named(options.format)
    half = _half(options)
    _warn_of_idle(row, options)
    need_packages(row.makes, f"Export to {row.title}")
    end2end = options.nms is False and network.can_end2end if options.end2end is None else options.end2end
    plain = copy.deepcopy(network).cpu().float().eval().use(end2end, options.uncertainty)
    plain = plain.fuse().requires_grad_(False)
    settled = replace(
        metadata,
        imgsz=_size(options, metadata.stride),
        dynamic=options.dynamic,
        batch=options.batch,
        end2end=end2end,
        uncertainty=options.uncertainty,
        args={},
    )
    if options.dynamic:
        settled = replace(settled, batch=0)
    job = ExportJob(network=plain, metadata=settled, options=options, half=half)
    module = import_module(f"yolopose.formats.{row.module}")
    target = Path(f"{stem}{row.suffixes[0]}")
    with (atomic_folder if row.folder else atomic_path)(target) as temporary:
        words = module.export(job, temporary)
        differences = _compare(job, module.load(temporary), picture)
    size = sum(file.stat().st_size for file in (target.iterdir() if row.folder else [target])) / 1e6
    batch = "any number" if settled.dynamic else settled.batch
    sides = "any size" if settled.dynamic else f"{settled.imgsz[0]} × {settled.imgsz[1]}"
    LOGGER.info(
        f"Wrote {target} ({row.title}, {words}, {size:.1f} MB, input {batch} × 3 × {sides}) in "
        f"{perf_counter() - start:.1f} s.\n{differences}\n{_usage(target, settled.imgsz, data)}"
    )
    return target


def _usage(path: Path, imgsz: Sequence[int], data: str | None) -> str:
    """Returns the commands that a user may want next."""
    size = imgsz[0] if imgsz[0] == imgsz[-1] else f"{imgsz[0]},{imgsz[-1]}"
    name = f'"{path}"' if " " in str(path) else path
    return (
        f"Predict:   yolo pose predict model={name} source=PICTURES imgsz={size}\n"
        f"Validate:  yolo pose val model={name} data={data or 'DATA.yaml'} imgsz={size}"
    )


def _half(options: ExportOptions) -> bool:
    """Whether 16 bits are asked for, in either of the two spellings; what is not there yet is refused."""
    kind = str(options.quantize).lower()
    if options.int8 or kind in ("8", "int8", "w8a8", "w16a16", "w8a16", "w8a32"):
        raise UsageError("8-bit export (int8=True, quantize=8) is not in this version; half=True gives 16-bit numbers.")
    if options.nms:
        raise UsageError("nms=True (suppression inside the file) is not in this version; yolopose suppresses outside.")
    return options.half or kind in ("16", "fp16")


def _warn_of_idle(row: Format, options: ExportOptions) -> None:
    """Names the options that were given and that this format does not heed."""
    idle = [
        f"{field.name}={getattr(options, field.name)}"
        for field in fields(options)
        if field.name not in (*_ANY, *row.options)
        and not field.metadata["unread"]  # the check of options has named it
        and getattr(options, field.name) != field.default
    ]
    if idle:
        LOGGER.warning(f"{', '.join(idle)}: without meaning for {row.title}, and left aside.")


def _size(options: ExportOptions, stride: int) -> tuple[int, int]:
    sides = (options.imgsz,) if isinstance(options.imgsz, int) else tuple(options.imgsz)
    height, width = (-(-side // stride) * stride for side in (sides[0], sides[-1]))
    if (height, width) != (sides[0], sides[-1]):
        LOGGER.warning(f"imgsz={options.imgsz} is rounded up to {[height, width]}: multiples of the stride {stride}.")
    return height, width


def _compare(job: ExportJob, written: object, picture: Picture) -> str:
    """Runs file and network on a picture, in every kind of input that the file says to take.

    Raises:
        ExportError: they differ by more than rounding.
    """
    worst = [0.0, 0.0, 0.0]
    for batch in _batches(job, picture):
        with torch.inference_mode():
            expected = job.network(torch.from_numpy(batch).float().div_(255)).numpy()
        found = written.raw(batch)  # type: ignore[attr-defined]  # of every engine whose module has `export`
        if found.shape != expected.shape:
            raise ExportError(f"The file gives {found.shape} where the network gives {expected.shape}; it was removed.")
        worst = [max(pair) for pair in zip(worst, _differences(found, expected, job.metadata), strict=True)]
    box, score, point = worst
    pixels, share = _LIMITS[job.half]
    words = f"boxes within {box:.2g} px, scores within {score:.1g}, keypoints within {point:.2g} px"
    if not (box <= pixels and point <= pixels and score <= share):  # a NaN is no agreement either
        raise ExportError(
            f"The file does not compute what the network does ({words}; at most {pixels:g} px and {share:g} are "
            "rounding), and was removed. Another opset may serve, or simplify=False."
        )
    return f"Compared with torch on a picture: {words}."


def _batches(job: ExportJob, picture: Picture) -> list[Batch]:
    """The picture as the file's inputs: its one size, or the whole size and a small rectangle in twos."""
    metadata, source = job.metadata, (picture.shape[0], picture.shape[1])
    whole = Letterbox.fit(source, metadata.imgsz)
    batches = [letterbox_batch([picture] * (metadata.batch or 1), [whole] * (metadata.batch or 1))]
    if metadata.dynamic:
        height, width = (-(-side // (2 * metadata.stride)) * metadata.stride for side in metadata.imgsz)
        half = height, width
        part = Letterbox.fit(source, half, auto=True, stride=metadata.stride)
        batches.append(letterbox_batch([picture] * 2, [part] * 2))
    return batches


def _differences(
    found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], metadata: ModelMetadata
) -> tuple[float, float, float]:
    """Largest difference of boxes (pixels), scores and keypoints (pixels) in the cells that score highest."""
    if metadata.end2end:
        return _differences_of_detections(found, expected, metadata)
    nc, dims = metadata.spec.nc, metadata.spec.keypoints.dims
    cells = np.argsort(-expected[:, 4 : 4 + nc].max(1), axis=1)[:, None, :_SHOWN]
    apart = np.abs(np.take_along_axis(found, cells, 2) - np.take_along_axis(expected, cells, 2))
    count = metadata.spec.keypoints.count
    points = apart[:, 4 + nc : 4 + nc + count * dims].reshape(len(apart), count, dims, apart.shape[2])[:, :, :2]
    return float(apart[:, :4].max()), float(apart[:, 4 : 4 + nc].max()), float(points.max())


def _differences_of_detections(
    found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], metadata: ModelMetadata
) -> tuple[float, float, float]:
    """Likewise for finished detections, each compared with the one nearest to it: near-tied ones change places."""
    count, dims = metadata.spec.keypoints.shape
    places = [*range(4), *(6 + dims * point + axis for point in range(count) for axis in (0, 1))]
    wanted = expected[:, :_SHOWN]
    apart = np.abs(wanted[:, :, None, places] - found[:, None, :, places]).max(3)
    nearest = np.take_along_axis(found, apart.argmin(2)[..., None], 1)
    values = np.abs(nearest - wanted)
    return float(values[..., :4].max()), float(values[..., 4].max()), float(values[..., places[4:]].max())
