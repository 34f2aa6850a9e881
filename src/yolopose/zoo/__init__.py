"""Data files that ship with the package: model YAMLs and data set YAMLs. No code but their lookup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from yolopose.base.settings import load_settings
from yolopose.base.yamlfile import read_yaml

_ROOT = Path(__file__).resolve().parent
_MODELS = _ROOT / "models"


def model_yaml_names() -> list[str]:
    """Return the file names of the model YAMLs that ship, sorted; none carries a scale letter."""
    return sorted(path.name for path in _MODELS.glob("*.yaml"))


def model_yaml_path(name: str) -> Path | None:
    """Return the path of the shipped model YAML of exactly this file name (`yolo11-pose.yaml`), or None."""
    return _MODELS / name if name in model_yaml_names() else None


def public_weights_source(name: str) -> str | None:
    """Return the publisher's address of public weights of this file name, or None for other names."""
    table = _weights_table()
    for release, names in table["releases"].items():
        if name in names:
            return f"{table['address']}/{release}/{name}"
    return None


def public_weights_url(name: str) -> str | None:
    """Return the address to download public weights of this file name from (`assets_url` may be a mirror), or None."""
    source = public_weights_source(name)
    return mirror_url(source) if source else None


def public_weights_license() -> str:
    """Return the license of the public weights, as their publisher names it."""
    return str(_weights_table()["license"])


_SPELLED = re.compile(r"yolo-?v?-?(?P<number>\d+)-?(?P<scale>[nsmlx]?)(?P<task>-[a-z]+)?", re.IGNORECASE)


def is_shipped_model(stem: str) -> bool:
    """Whether `stem` (`yolo12n-pose`) names a network that ships as a YAML, its scale with it."""
    match = _SPELLED.fullmatch(stem)
    family = stem.replace(f"{match['scale']}-", "-", 1) if match and match["scale"] else ""
    return model_yaml_path(f"{family}.yaml") is not None


def suggest_model_name(stem: str) -> str | None:
    """Return what a misspelt model name probably means: `yolov11n` → `yolo11n-pose`, `yolo8n-pose` → `yolov8n-pose`.

    Args:
        stem: a file name without its suffix.

    Returns:
        The name without suffix, with scale n where none was given; None for other names.
    """
    match = _SPELLED.fullmatch(stem)
    if match is None:
        return None
    for family in (f"yolo{match['number']}", f"yolov{match['number']}"):
        name = f"{family}{match['scale'].lower() or 'n'}-pose"
        if name != stem and (model_yaml_path(f"{family}-pose.yaml") or public_weights_url(f"{name}.pt")):
            return name
    return None


def observed_blob_id(name: str) -> str | None:
    """Return the git blob id that public weights of this name were seen with, or None."""
    return _weights_table()["observed"].get(name)


def mirror_url(url: str) -> str:
    """Return the address with the publisher's place for weights and data sets replaced by that of the settings."""
    address = str(_weights_table()["address"])
    return load_settings().assets_url.rstrip("/") + url.removeprefix(address) if url.startswith(address) else url


def _weights_table() -> dict[str, Any]:
    return read_yaml(_ROOT / "weights.yaml", "table of public weights")


def format_table() -> dict[str, dict[str, Any]]:
    """Return `formats.yaml`: rows by the name of the format."""
    return read_yaml(_ROOT / "formats.yaml", "table of formats")


def web_runtime_table() -> dict[str, Any]:
    """Return `web.yaml`: the package that computes in the page of `format=web`, and its files."""
    return read_yaml(_ROOT / "web.yaml", "table of the web runtime")


def toolchain_tables() -> dict[str, dict[str, Any]]:
    """Return the files of `toolchains/`, which pin the libraries of one toolchain each, by their names."""
    files = sorted((_ROOT / "toolchains").glob("*.yaml"))
    return {path.stem: read_yaml(path, "table of a toolchain") for path in files}
