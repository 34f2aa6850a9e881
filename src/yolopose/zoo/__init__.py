"""Data files of the package: model YAMLs, data set YAMLs, tables of formats, networks, weights, foreign models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolopose.base.settings import load_settings
from yolopose.base.yamlfile import read_yaml

_ROOT = Path(__file__).resolve().parent
_MODELS = _ROOT / "models"
_TRACKERS = _ROOT / "trackers"
_MODEL_NAME = re.compile(r"yolo-?v?-?(?P<number>\d+)-?(?P<scale>[nsmlx]?)(?P<task>-[a-z]+)?", re.IGNORECASE)


# -- model YAMLs -----------------------------------------------------------------------------------------------------


def model_yaml_names() -> list[str]:
    """Return the sorted file names of the shipped model YAMLs, without scale letters."""
    return sorted(path.name for path in _MODELS.glob("*.yaml"))


def model_yaml_path(name: str) -> Path | None:
    """Return the path of the shipped model YAML with exactly this file name (`yolo11-pose.yaml`), or None."""
    return _MODELS / name if name in model_yaml_names() else None


def is_shipped_model(stem: str) -> bool:
    """Return whether a name with scale letter (`yolo12n-pose`) is a network whose model YAML ships."""
    match = _MODEL_NAME.fullmatch(stem)
    family = stem.replace(f"{match['scale']}-", "-", 1) if match and match["scale"] else ""
    return model_yaml_path(f"{family}.yaml") is not None


def suggest_model_name(stem: str) -> str | None:
    """Return the model that a misspelled name probably means: `yolov11n` → `yolo11n-pose`, `yolo8n` → `yolov8n-pose`.

    Args:
        stem: a file name without its suffix.

    Returns:
        The name without suffix, with scale n where `stem` has none; None for unknown names.
    """
    match = _MODEL_NAME.fullmatch(stem)
    if match is None:
        return None
    for family in (f"yolo{match['number']}", f"yolov{match['number']}"):
        name = f"{family}{match['scale'].lower() or 'n'}-pose"
        if name != stem and (model_yaml_path(f"{family}-pose.yaml") or public_weights_url(f"{name}.pt")):
            return name
    return None


# -- tracker YAMLs ---------------------------------------------------------------------------------------------------


def tracker_yaml_names() -> list[str]:
    """Return the sorted file names of the shipped tracker YAMLs."""
    return sorted(path.name for path in _TRACKERS.glob("*.yaml"))


def tracker_yaml_path(name: str) -> Path | None:
    """Return the path of the shipped tracker YAML with exactly this file name (`oks.yaml`), or None."""
    return _TRACKERS / name if name in tracker_yaml_names() else None


# -- public weights --------------------------------------------------------------------------------------------------


def public_weights_source(name: str) -> str | None:
    """Return the publisher's address of public weights with this file name, or None for other names."""
    table = _weights_table()
    for release, names in table["releases"].items():
        if name in names:
            return f"{table['address']}/{release}/{name}"
    return None


def public_weights_url(name: str) -> str | None:
    """Return the download address of public weights with this file name (`assets_url` may be a mirror), or None."""
    source = public_weights_source(name)
    return mirror_url(source) if source else None


def public_weights_license() -> str:
    """Return the license of the public weights, as stated by their publisher."""
    return str(_weights_table()["license"])


def observed_blob_id(name: str) -> str | None:
    """Return the git blob id that public weights with this name were observed to have, or None."""
    return _weights_table()["observed"].get(name)


def mirror_url(url: str) -> str:
    """Return an address of the publisher with the host of the settings (`assets_url`); other addresses unchanged."""
    address = str(_weights_table()["address"])
    return load_settings().assets_url.rstrip("/") + url.removeprefix(address) if url.startswith(address) else url


def _weights_table() -> dict[str, Any]:
    return read_yaml(_ROOT / "weights.yaml", "table of public weights")


# -- sizes of networks -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PublishedResults:
    """Results stated by the publisher of the weights for COCO val2017 at 640; not measured here.

    Attributes:
        map: mAP50-95 of the poses, percent.
        map50: mAP50 of the poses, percent.
        cpu_onnx_ms: milliseconds per image with ONNX on a CPU.
        t4_tensorrt_ms: milliseconds per image with TensorRT on a T4 GPU; None if not stated.
        a100_tensorrt_ms: the same on an A100 GPU.
    """

    map: float
    map50: float
    cpu_onnx_ms: float
    t4_tensorrt_ms: float | None = None
    a100_tensorrt_ms: float | None = None


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """Size of a network with 1 class and 17 keypoints, for an image of 640 x 640.

    Attributes:
        name: `yolo11n-pose`.
        layers: modules without submodules.
        parameters: number of parameters.
        gflops: 10⁹ operations.
        fused_layers: layers after folding batch norms into convolutions.
        fused_parameters: parameters after folding.
        fused_gflops: 10⁹ operations after folding.
        published: results of the public weights; None where there are none.
    """

    name: str
    layers: int
    parameters: int
    gflops: float
    fused_layers: int
    fused_parameters: int
    fused_gflops: float
    published: PublishedResults | None


def network_sizes() -> list[NetworkSize]:
    """Return the sizes of all shipped networks, grouped by family, smallest first."""
    table = read_yaml(_ROOT / "networks.yaml", "table of networks")
    published = {name: PublishedResults(**values) for name, values in table["published"].items()}
    return [
        NetworkSize(name=name, published=published.get(name), **values) for name, values in table["networks"].items()
    ]


# -- networks of other packages --------------------------------------------------------------------------------------


def foreign_table() -> dict[str, Any]:
    """Return `models_foreign.yaml`: families of networks of other packages, and keypoint schemas."""
    return read_yaml(_ROOT / "models_foreign.yaml", "table of foreign models")


def dataset_table(name: str) -> dict[str, Any]:
    """Return the data YAML of a known data set (`coco-pose`)."""
    return read_yaml(_ROOT / "datasets" / f"{name}.yaml", "data YAML")


# -- formats and toolchains ------------------------------------------------------------------------------------------


def format_table() -> dict[str, dict[str, Any]]:
    """Return the rows of `formats.yaml` by format name."""
    return read_yaml(_ROOT / "formats.yaml", "table of formats")


def web_runtime_table() -> dict[str, Any]:
    """Return `web.yaml`: the package that computes in the page of `format=web`, and its files."""
    return read_yaml(_ROOT / "web.yaml", "table of the web runtime")


def toolchain_tables() -> dict[str, dict[str, Any]]:
    """Return the files of `toolchains/` by name; each pins the libraries of a toolchain."""
    files = sorted((_ROOT / "toolchains").glob("*.yaml"))
    return {path.stem: read_yaml(path, "table of a toolchain") for path in files}
