"""`YOLO.export`: choose the path and the test image, emit the callbacks, and write the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import YoloposeError
from yolopose.config import ExportOptions
from yolopose.data import load_dataset, read_image
from yolopose.data.figures import draw_scene
from yolopose.formats.exporting import export_network
from yolopose.nn import PoseModel
from yolopose.schema import ModelMetadata


@dataclass(slots=True)
class Export:
    """One export; the argument of `on_export_start` and `on_export_end`.

    Attributes:
        model: the network.
        metadata: metadata of the network.
        args: the options.
        callbacks: functions by event.
        file: the written file or folder; None before the end.
    """

    model: PoseModel
    metadata: ModelMetadata
    args: ExportOptions
    callbacks: Callbacks
    file: Path | None = None

    def run(self, weights: Path, data: str | None) -> Path:
        """Write the file and log how to use it; see `export_network`.

        Args:
            weights: path or name with which the network was opened. The export is written beside an existing file,
                else (a name that was downloaded, a model YAML) into the current folder.
            data: data YAML that the weights remember, for the test image and the usage message.
        """
        stem = weights.with_suffix("") if weights.exists() else Path(weights.stem)
        self.callbacks.emit("on_export_start", self)
        image = _test_image(self.args.data or data, alpha=self.metadata.spec.channels == 4)
        self.file = export_network(self.model, self.metadata, self.args, stem, image, data)
        self.callbacks.emit("on_export_end", self)
        return self.file


def _test_image(data: str | None, *, alpha: bool) -> npt.NDArray[np.uint8]:
    """Return an image of the network's own data where it is available, else a drawn one."""
    if data:
        try:
            return read_image(load_dataset(data).image_files("val")[0], alpha=alpha)
        except (YoloposeError, OSError, IndexError):  # the data set has moved or was never on this machine
            pass
    return draw_scene(0, "val", 0, 640)[0]
