"""Bundles of two TFLite graphs: MediaPipe's `.task` files, and the packed files of its npm packages."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from yolopose.base.archives import open_zip, read_zip_member
from yolopose.base.errors import DataError, WeightsError

_MARK = b"TFL3"  # identifier of a TFLite file, 4 bytes after its start
_MAX_MEMBER = 500_000_000
_GRAPH_NAME = "landmarks_detector.tflite"


def bundle(graph: bytes, detector: bytes) -> bytes:
    """Return a `.task` file of the keypoint network and the detector of the first stage."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:  # stored, as MediaPipe reads it
        archive.writestr(zipfile.ZipInfo("landmarks_detector.tflite"), graph)
        archive.writestr(zipfile.ZipInfo("detector.tflite"), detector)
    return stream.getvalue()


def read_bundle(path: Path) -> tuple[bytes, bytes]:
    """Return the keypoint network and the detector of a `.task` file.

    Raises:
        WeightsError: it is not such a file.
    """
    try:
        with open_zip(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist() if entry.filename.endswith(".tflite")}
            landmarks = [name for name in entries if name.endswith(_GRAPH_NAME)]
            detectors = [name for name in entries if name not in landmarks and "detector" in name]
            if len(landmarks) != 1 or len(detectors) != 1:
                listed = ", ".join(entries) or "no TFLite graphs"
                raise WeightsError(
                    f"{path} is not a bundle for poses or hands: it holds {listed}. Expected: one "
                    "…landmarks_detector.tflite and one …detector.tflite."
                )
            graph, detector = (
                read_zip_member(path, archive, entries[name], _MAX_MEMBER) for name in (landmarks[0], detectors[0])
            )
            return graph, detector
    except (DataError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as a .task file ({error}). Download or copy it again.") from error


def packed_graphs(data: bytes) -> list[bytes]:
    """Return the TFLite graphs in a file that is their concatenation."""
    starts: list[int] = []
    position = data.find(_MARK)
    while position >= 4:
        starts.append(position - 4)
        position = data.find(_MARK, position + len(_MARK))
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
