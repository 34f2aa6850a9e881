"""What `YOLO.export` does around the writing: where the file goes, and the image that it is tried on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import YoloposeError
from yolopose.config import ExportOptions
from yolopose.data import load_dataset, read_image
from yolopose.data.figures import draw_scene
from yolopose.formats.exporting import export_network
from yolopose.nn import PoseModel
from yolopose.schema import ModelMetadata


def export(
    network: PoseModel, metadata: ModelMetadata | None, options: ExportOptions, model_name: str, data: str | None
) -> Path:
    """Write the file beside the weights it comes from and says how to use it; see `export_network`.

    Args:
        network: the network.
        metadata: the record that came with its weights.
        options: format, input size, ….
        model_name: the file that the network was opened as. A name that was looked up elsewhere, and a model YAML,
            put the export into the current folder.
        data: data YAML that the network knows, for an image to try the file on and for the words about its use.
    """
    path = Path(model_name)
    stem = path.with_suffix("") if path.exists() else Path(path.stem)
    known = metadata or network.default_metadata()
    return export_network(network, known, options, stem, _image(options.data or data), data)


def _image(data: str | None) -> npt.NDArray[np.uint8]:
    """An image of the network's own data where that is at hand, else one that is drawn."""
    if data:
        try:
            return read_image(load_dataset(data).image_files("val")[0])
        except (YoloposeError, OSError, IndexError):  # the data set has moved, or was never here: no reason to stop
            pass
    return draw_scene(0, "val", 0, 640)[0]
