"""Open a file of another package: find its layout by its inputs and outputs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from yolopose.base.errors import NotFoundError, WeightsError
from yolopose.base.files import read_regular
from yolopose.base.log import warn_once
from yolopose.foreign.bundle import packed_graphs, read_bundle
from yolopose.foreign.engine import BoxSource, ForeignRuntime
from yolopose.foreign.graph import Graph, open_graph
from yolopose.foreign.layout import Layout, ModelFile, Preprocessing
from yolopose.foreign.table import ForeignModel, default_spec, find_foreign, named_spec, spec_beside
from yolopose.schema import ModelMetadata, PoseSpec

SUFFIXES = (".onnx", ".xml", "_openvino_model", ".tflite", ".task")
"""Endings of files that `open_foreign` can open."""

_LAYOUTS = ("rtmo", "detr", "topdown", "mediapipe")
"""Modules of the layouts, in the order in which they are tried; each defines LAYOUT."""

_MAX_GRAPH = 2 << 30


def layouts() -> list[Layout]:
    """Return all layouts."""
    return [import_module(f"yolopose.foreign.{name}").LAYOUT for name in _LAYOUTS]


def describe_layouts() -> str:
    """Return the known layouts with their inputs and outputs, for messages."""
    return "; ".join(f"{layout.title}: {layout.signature}" for layout in layouts())


def open_foreign(
    path: Path,
    *,
    device: object = None,
    half: bool = False,
    engine: str | None = None,
    detector: BoxSource | None = None,
) -> ForeignRuntime:
    """Open a file of another package.

    Args:
        path: a file that ends in one of `SUFFIXES`.
        device: see `yolopose.formats.open_runtime`.
        half: has no effect, since files are run as they are.
        engine: `onnx`, `openvino` or `litert`; None for the default of the file.
        detector: finds the boxes for a top-down network.

    Raises:
        NotFoundError: the file does not exist.
        WeightsError: it is damaged, or its layout is not known; the message has the known ones.
        DependencyError: its engine is not installed.
        UsageError: the device is not available.
    """
    if not path.exists():
        raise NotFoundError(f"The file {path} does not exist. Check the path (current folder: {Path.cwd()}).")
    if half:
        warn_once(f"half=True has no effect on {path.name}, which is run as it is.")
    row = find_foreign(path)
    file = _open_files(path, row, engine, device)
    layout = next((layout for layout in layouts() if layout.matches(file.graph)), None)
    if layout is None:
        raise _unknown_layout(path, file.graph)
    estimator = layout.make(file)
    metadata = ModelMetadata(
        spec=estimator.spec,
        name=row.name if row else path.stem,
        stride=1,
        imgsz=estimator.imgsz,
        dynamic=False,
        outputs=layout.name,
        native_size=True,
        license=row.license if row else "",
    )
    return ForeignRuntime(estimator, metadata, file.graph.device, detector)


def _unknown_layout(path: Path, graph: Graph) -> WeightsError:
    """Return the error of a file of unknown layout."""
    first_stage = next((layout for layout in layouts() if layout.first_stage(graph)), None)
    if first_stage:
        return WeightsError(
            f"{path} is the detector of {first_stage.title}, the first of its two stages. Open the file with the "
            "keypoints (such as pose_landmark_lite.tflite) and leave this one in the same folder."
        )
    return WeightsError(
        f"{path} is neither a network exported by yolopose or the reference package (it has no metadata), nor of a "
        f"known layout of another package. It has {graph.describe()}. Known layouts are {describe_layouts()}."
    )


def _open_files(path: Path, row: ForeignModel | None, engine: str | None, device: object) -> ModelFile:
    """Open the graphs of a file, and prepare what its layout needs."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), path.suffix)
    name = str(path)
    detector: bytes | None = None
    source: Path | bytes = path
    if suffix == ".task":
        source, detector = read_bundle(path)
        suffix = ".tflite"
    elif suffix == ".tflite":
        detector = _detector_beside(path)
    graph = open_graph(source, suffix, name=name, engine=engine, device=device)
    has_stages = detector is not None and not any(layout.first_stage(graph) for layout in layouts())
    stage = (
        open_graph(detector, suffix, name=f"the detector of {name}", engine=engine, device=device)
        if (has_stages and detector is not None)
        else None
    )
    preprocessing = Preprocessing(**row.preprocessing) if row and row.preprocessing else None
    own_spec = spec_beside(path)

    def spec_for(count: int, dims: int, schema: str) -> PoseSpec:
        if own_spec is not None:
            return _checked(own_spec, path, count)
        if row and row.count == count:
            return named_spec(row.schema, dims)
        return named_spec(schema, dims) if schema else default_spec(count, dims)

    return ModelFile(graph=graph, name=name, spec_for=spec_for, preprocessing=preprocessing, detector=stage)


def _checked(spec: PoseSpec, path: Path, count: int) -> PoseSpec:
    """Check that the YAML beside a file has the keypoints of its graph.

    Raises:
        WeightsError: it has not.
    """
    if spec.keypoints.count != count:
        raise WeightsError(
            f"{path.with_suffix('.yaml')} has kpt_shape {list(spec.keypoints.shape)}, but {path} returns {count} "
            "keypoints. Correct or remove the YAML."
        )
    return spec


def _detector_beside(path: Path) -> bytes | None:
    """Return the detector of the first stage, if the folder of a MediaPipe graph has it."""
    kind = "hand" if "hand" in path.name else "pose"
    names = ("palm_detection_lite.tflite", "palm_detection_full.tflite", "hand_detector.tflite")
    if kind == "pose":
        names = ("pose_detection.tflite", "pose_detector.tflite")
    for name in names:
        file = path.with_name(name)
        if file.is_file() and file != path:
            return read_regular(file, _MAX_GRAPH)
    packed = path.with_name(
        "hands_solution_packed_assets.data" if kind == "hand" else "pose_solution_packed_assets.data"
    )
    graphs = packed_graphs(read_regular(packed, _MAX_GRAPH)) if packed.is_file() else []
    if not graphs:
        return None
    return graphs[-1] if "lite" in path.name else graphs[0]
