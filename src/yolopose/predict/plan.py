"""What prediction does with a network: input size, batch, thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yolopose.base.errors import UsageError
from yolopose.base.log import warn_once
from yolopose.config import PredictOptions
from yolopose.geometry import Letterbox
from yolopose.predict.items import Item
from yolopose.runtime.nms import warn_built_in_nms
from yolopose.schema import ModelMetadata

DEFAULT_CONF = 0.25
_WINDOW = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """Options as this network takes them.

    Attributes:
        conf: scores must exceed it.
        imgsz: (height, width) to fit images into.
        auto: whether the input is the smallest rectangle around the image instead of the whole `imgsz`.
        stride: sides of an input are multiples of it.
        batch: most images in one call.
        job: images that are taken from the source at once; more than `batch`, so that those of one input size find
            each other among them.
        classes: class indices to keep, or None for all.
    """

    conf: float
    imgsz: tuple[int, int]
    auto: bool
    stride: int
    batch: int
    job: int
    classes: list[int] | None

    @classmethod
    def make(cls, metadata: ModelMetadata, options: PredictOptions) -> Plan:
        """Fit options to a network.

        Raises:
            UsageError: they do not go together.
        """
        batch = metadata.batch or options.batch
        conf = DEFAULT_CONF if options.conf is None else options.conf
        warn_built_in_nms(metadata, conf, options)
        return cls(
            conf=conf,
            imgsz=_input_size(options.imgsz, metadata),
            auto=metadata.dynamic,
            stride=metadata.stride,
            batch=batch,
            job=batch if batch == 1 else _WINDOW * batch,
            classes=_classes(options.classes, metadata.spec.names),
        )

    def fit(self, item: Item) -> Letterbox:
        """Return where an image lies in its input; a tensor is the input itself.

        Raises:
            UsageError: a tensor of a size that this network does not take.
        """
        size = item.full or (item.image.shape[0], item.image.shape[1])
        if item.planes is None:
            return Letterbox.fit(size, self.imgsz, auto=self.auto, stride=self.stride)
        if not self.auto and size != self.imgsz:
            raise UsageError(
                f"This network takes inputs of {self.imgsz[0]} × {self.imgsz[1]} alone, but the tensor is "
                f"{size[0]} × {size[1]}. Resize or pad it, or give a numpy array, which is letterboxed."
            )
        return Letterbox.fit(size, size)


def _input_size(imgsz: int | Sequence[int], metadata: ModelMetadata) -> tuple[int, int]:
    """(height, width), rounded up to the stride; the network's own when it takes no other."""
    sides = [imgsz] if isinstance(imgsz, int) else list(imgsz)
    wanted = sides[0], sides[-1]
    if not metadata.dynamic:
        if wanted != metadata.imgsz:
            warn_once(f"imgsz={imgsz} is left aside: this network was exported for {metadata.imgsz} alone.")
        return metadata.imgsz
    stride = metadata.stride
    height, width = (-(-side // stride) * stride for side in wanted)
    if (height, width) != wanted:
        warn_once(f"imgsz={imgsz} is no multiple of the stride {stride}: rounded up to {(height, width)}.")
    return height, width


def _classes(classes: int | Sequence[int] | None, names: dict[int, str]) -> list[int] | None:
    if classes is None:
        return None
    wanted = [classes] if isinstance(classes, int) else list(classes)
    for index in wanted:
        if index not in names:
            known = ", ".join(f"{number} ({name})" for number, name in names.items())
            raise UsageError(f"classes={classes}: there is no class {index}; this network has {known}.")
    return wanted
