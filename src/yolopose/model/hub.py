"""Resolve a model name to a local file; public weights and web addresses are downloaded once."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolopose import zoo
from yolopose.base.errors import NotFoundError, UsageError, YoloposeError
from yolopose.base.settings import load_settings
from yolopose.base.suggestions import suggest_path
from yolopose.base.yamlfile import read_yaml
from yolopose.formats import find_format, format_for_path


def find_weights(path: str | Path) -> Path:
    """Return the local file of a model: the path itself, a file of the weights folder, or a download.

    Args:
        path: a path, the name of public weights (`yolo11n-pose.pt`), or an http(s) address.

    Raises:
        NotFoundError: the file does not exist, and no public weights have this name.
        DownloadError: the file cannot be downloaded, or a downloaded file has changed since.
        WeightsError: the download is not a weights file.
    """
    if not is_url(path) and Path(path).exists():
        return Path(path)
    from yolopose.model.weights_download import public_weights, verified, weights_from_url  # loads the HTTP client

    if is_url(path):
        return weights_from_url(str(path))
    path = Path(path)
    is_bare_name = path.parent == Path()
    public_url = zoo.public_weights_url(path.name)
    if is_bare_name and public_url:
        return public_weights(path.name, public_url)
    folder = Path(load_settings().weights_dir)
    if is_bare_name and (folder / path.name).exists():
        return verified(folder / path.name)
    kind = "weights" if format_for_path(path).info.weights else "exported"
    hint = f" The bare name {path.name} downloads the public weights." if public_url else _suggest_weights(path)
    raise NotFoundError(
        f"The {kind} file {path} does not exist (searched in {Path.cwd()} and {folder}). Check the path.{hint}"
    )


def is_url(path: object) -> bool:
    """Return whether a model is named by its http(s) address."""
    return isinstance(path, str) and path.lower().startswith(("http://", "https://"))


def complete_suffix(path: Path) -> Path:
    """Return the weights file that a name without suffix means: `yolo11n-pose` → `yolo11n-pose.pt`.

    Names that exist, and others whose `.pt` neither exists nor is published, are returned unchanged.
    """
    if path.suffix.lower() in (".yaml", ".yml") or path.exists() or find_format(path) is not None:
        return path
    weights = path.with_name(f"{path.name}.pt")
    is_public = path.parent == Path() and zoo.public_weights_url(weights.name) is not None
    return weights if is_public or weights.is_file() else path


def refuse_data_yaml(path: Path) -> None:
    """Check that a YAML given as the model does not describe a data set.

    Raises:
        UsageError: it does; the message has the call that was probably meant.
    """
    from yolopose.data import shipped_datasets

    content: Mapping[str, Any] = {}
    if path.is_file():
        try:
            content = read_yaml(path, "model YAML")
        except YoloposeError:  # `build_network` explains it
            return
    is_data = not {"backbone", "head"} & set(content) and bool({"train", "val", "path"} & set(content))
    if is_data or (not path.exists() and path.name in shipped_datasets()):
        raise UsageError(
            f"model={path} is a data YAML, not a network: give it as data={path}, and a network as the model, such as "
            f"YOLO('yolo11n-pose.pt').train(data='{path}'), or on the command line model=yolo11n-pose.pt data={path}."
        )


def suggest_model(path: Path) -> str:
    """Return a sentence, after a space, on what a model without a known suffix probably means; empty if unknown."""
    inside = next((file for file in (path / "weights/best.pt", path / "best.pt") if file.is_file()), None)
    if inside:
        return f" It is a training folder: did you mean model={inside}?"
    if path.exists():
        return ""
    stem = path.stem if path.suffix else path.name
    name = stem if zoo.public_weights_url(f"{stem}.pt") else zoo.suggest_model_name(stem)
    if name:
        return f" Did you mean model={name}.pt (weights), or model={name}.yaml (a new network)?"
    return suggest_path(path, "model")


def _suggest_weights(path: Path) -> str:
    """Return a sentence, after a space, on what a path to missing weights probably means; empty if unknown."""
    is_bare_name = path.parent == Path()
    if is_bare_name and path.suffix == ".pt" and zoo.is_shipped_model(path.stem):
        return f" No public weights of {path.stem} are published; model={path.stem}.yaml is a new network to train."
    name = zoo.suggest_model_name(path.stem) if is_bare_name else None
    if name is None:
        return suggest_path(path, "model") or _suggest_latest_run(path)
    if path.suffix.lower() not in (".pt", ".pth"):
        return f" Export it first: yolo export model={name}.pt format={format_for_path(path).info.name}"
    other_task = "-pose" not in path.stem.lower()
    why = "; networks of other tasks are not supported" if other_task else ""
    return f" Did you mean model={name}.pt? Pose weights have such names{why}."


def _suggest_latest_run(path: Path) -> str:
    """Return a sentence naming the newest training output with this file name; empty if there is none."""
    if path.parent != Path():
        return ""
    candidates = Path(load_settings().runs_dir).glob(f"pose/*/weights/{glob.escape(path.name)}")
    newest = max(candidates, key=lambda file: file.stat().st_mtime, default=None)
    return f" The newest such file from training is model={newest}." if newest else ""
