"""Images of results: annotated images (`save`), plain frames (`save_frames`), crops (`save_crop`), windows (`show`)."""

from __future__ import annotations

from glob import escape
from pathlib import Path

from yolopose.base.files import remove
from yolopose.predict.sinks.base import Sink, WriteContext, format_count
from yolopose.results import Results
from yolopose.results.plotting import show_image
from yolopose.results.writing import save_image, to_uint8_bgr

# Formats that every build of OpenCV can write; images in other formats are saved as JPEG.
_WRITABLE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class AnnotatedImages(Sink):
    """Writes `NAME.jpg`, or the suffix of the source if it can be written."""

    def __init__(self) -> None:
        self._count = 0

    def accepts(self, result: Results) -> bool:
        """Accept images; frames are written to videos."""
        return result.error is None and result.frame is None

    def write(self, context: WriteContext) -> None:
        """Write one image."""
        suffix = Path(context.result.path).suffix
        suffix = suffix if suffix.lower() in _WRITABLE_SUFFIXES else ".jpg"
        save_image(context.annotated, context.folder / f"{context.stem}{suffix}")
        self._count += 1

    def replay(self, context: WriteContext) -> None:
        """Count an image that exists."""
        self._count += 1

    @property
    def summary(self) -> str:
        """Number of images."""
        return format_count(self._count, "image")


class PlainFrames(Sink):
    """Writes frames of videos and streams without annotations as `NAME_frames/12.jpg`."""

    def __init__(self) -> None:
        self._count = 0

    def accepts(self, result: Results) -> bool:
        """Accept frames only."""
        return result.error is None and result.frame is not None

    def write(self, context: WriteContext) -> None:
        """Write one frame."""
        assert context.result.frame is not None  # noqa: S101  # checked by `accepts`
        image = to_uint8_bgr(context.result.orig_img)
        save_image(image, context.folder / f"{context.stem}_frames" / f"{context.result.frame.number}.jpg")
        self._count += 1

    def replay(self, context: WriteContext) -> None:
        """Count a frame that exists."""
        self._count += 1

    @property
    def summary(self) -> str:
        """Number of frames."""
        return format_count(self._count, "frame")


class Crops(Sink):
    """Writes the image inside each box as `crops/CLASS/NAME.jpg`, `NAME-2.jpg`, …."""

    def __init__(self) -> None:
        self._count = 0
        self._is_resumed = False

    def write(self, context: WriteContext) -> None:
        """Write the crops of one image."""
        if self._is_resumed:  # the interrupted run may have written them after its state was saved
            for pattern in (f"crops/*/{escape(context.name)}.jpg", f"crops/*/{escape(context.name)}-*.jpg"):
                for path in context.folder.glob(pattern):
                    remove(path)
        self._count += len(context.result.save_crop(context.folder / "crops", f"{context.name}.jpg"))

    def replay(self, context: WriteContext) -> None:
        """Count the crops of an image, which exist."""
        self._is_resumed = True
        self._count += len(context.result)

    @property
    def summary(self) -> str:
        """Number of crops."""
        return format_count(self._count, "crop")


class Window(Sink):
    """Shows each image until a key is pressed, and all frames of a video in one window."""

    def write(self, context: WriteContext) -> None:
        """Show one image."""
        show_image(context.annotated, context.result.path, wait=context.result.frame is None)

    @property
    def summary(self) -> str:
        """Empty, since no file is written."""
        return ""
