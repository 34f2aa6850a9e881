"""Images that 8-bit numbers are fitted to: what a quantizer is fed, whatever library it is of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError, YoloposeError
from yolopose.base.log import LOGGER
from yolopose.config import ExportOptions
from yolopose.data import load_dataset, read_image
from yolopose.data.dataset import Split
from yolopose.data.images import letterbox_batch
from yolopose.geometry import Letterbox
from yolopose.schema import KeypointSchema, ModelMetadata

MOST = 300
"""Images that are used of a larger data set: ranges no longer change with more."""
_FEW = 32
_USUAL = "coco8-pose.yaml"  # what the public interface takes when none is named


@dataclass(frozen=True, slots=True)
class Calibration:
    """Images as a network sees them.

    Attributes:
        files: the images.
        imgsz: (height, width) of the input.
        batch: images in one input; the last input is filled up with the first images.
        words: where they are from, for the log.
    """

    files: tuple[Path, ...]
    imgsz: tuple[int, int]
    batch: int
    words: str

    def __len__(self) -> int:
        """Numbers of inputs."""
        return -(-len(self.files) // self.batch)

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        """Return inputs, (batch, 3, H, W) float32 RGB 0…1, made when they are asked for.

        Raises:
            SourceError: an image cannot be read.
        """
        for start in range(0, len(self.files), self.batch):
            places = [(start + place) % len(self.files) for place in range(self.batch)]
            images = [read_image(self.files[place]) for place in places]
            fits = [Letterbox.fit((image.shape[0], image.shape[1]), self.imgsz) for image in images]
            yield np.divide(letterbox_batch(images, fits), np.float32(255), dtype=np.float32)


def calibration_for(options: ExportOptions, metadata: ModelMetadata, remembered: str | None) -> Calibration:
    """Choose the images that `data=`, `split=` and `fraction=` name, spread over the whole split.

    Args:
        options: of the export.
        metadata: as the file will have it.
        remembered: data YAML of the network's training.

    Raises:
        UsageError: no data set is named, and there is none to fall back on.
        NotFoundError: the data YAML is not there.
        DataError: the split has no images.
    """
    name, files = _files(options, metadata, remembered)
    count = min(MOST, max(1, round(options.fraction * len(files))))
    chosen = tuple(files[number * len(files) // count] for number in range(count))
    if count < _FEW:
        LOGGER.warning(
            f"8-bit numbers are fitted to {count} images alone ({options.split} of {name}): a hundred or more of the "
            "kind that the network will see give better ones (data=, split=, fraction=)."
        )
    words = f"{count} images, {options.split} of {Path(name).name}"
    return Calibration(chosen, metadata.imgsz, max(1, metadata.batch), words)


def _files(options: ExportOptions, metadata: ModelMetadata, remembered: str | None) -> tuple[str, list[Path]]:
    """Name and images of the data set that is named, of the one that is remembered, or of the usual one."""
    split = cast(Split, options.split)
    if options.data:
        return options.data, load_dataset(options.data, download=None, splits=[split]).image_files(split)
    if remembered:
        try:
            return remembered, load_dataset(remembered).image_files(split)
        except (YoloposeError, OSError):  # moved, or never here: nobody named it
            pass
    if metadata.spec.keypoints.shape != KeypointSchema.coco_person().shape:
        raise UsageError(
            "int8=True fits numbers to images of the kind that the network will see: name a data set that has them, "
            "data=my.yaml."
        )
    LOGGER.info(f"No data= given: 8-bit numbers are fitted to the images of {_USUAL}.")
    return _USUAL, load_dataset(_USUAL, download=None, splits=[split]).image_files(split)


def outer_steps(nodes: Sequence[tuple[str, bool, Iterable[str], Iterable[str]]]) -> list[str]:
    """Return the nodes of a graph that stay in 32 bits: the first convolution, the last ones, and what is around them.

    They are small, and what they read and give is wanted finely: 255 steps for what the last ones give would be several
    pixels each, and behind them, one scale for pixels up to 640 and scores up to 1 would leave two scores, 0 and 1.

    Args:
        nodes: in their order: name, whether it is a convolution, names of the values that it reads and makes.
    """
    made: set[str] = set()  # values that a convolution has had a part in
    outer: dict[str, None] = {}
    for name, weighted, reads, makes in nodes:
        behind = bool(made.intersection(reads))
        if weighted or behind:
            made.update(makes)
        if not behind:
            outer[name] = None
    wanted: set[str] = set()  # values that some convolution reads, at whatever distance
    for name, weighted, reads, makes in reversed(nodes):
        before = bool(wanted.intersection(makes))
        if weighted or before:
            wanted.update(reads)
        if not before:
            outer[name] = None
    return list(outer)
