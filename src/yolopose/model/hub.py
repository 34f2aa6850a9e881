"""Resolve a model name to a local file; public weights and web addresses are downloaded once."""

from __future__ import annotations

import glob
from functools import partial
from pathlib import Path

from yolopose import zoo
from yolopose.base.download import (
    DownloadSpec,
    checksum_file,
    download,
    file_name_from_url,
    git_blob_id,
    read_record,
    url_digest,
    verify_checksum,
)
from yolopose.base.errors import NotFoundError
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings
from yolopose.base.suggestions import suggest_path
from yolopose.formats import format_for_path

_MAX_BYTES = 2_000_000_000  # the largest public pose weights have 150 MB


def find_weights(path: str | Path) -> Path:
    """Return the local file of a model: the path itself, a file of the weights folder, or a download.

    Args:
        path: a path, the name of public weights (`yolo11n-pose.pt`), or an http(s) address.

    Raises:
        NotFoundError: there is no such file, and no public weights have this name.
        DownloadError: the file cannot be downloaded, or a downloaded file has changed since.
        WeightsError: the download is not a weights file.
    """
    if is_url(path):
        return _weights_from_url(str(path))
    path = Path(path)
    if path.exists():
        return path
    is_bare_name = path.parent == Path()
    public_url = zoo.public_weights_url(path.name)
    if is_bare_name and public_url:
        return _public_weights(path.name, public_url)
    folder = Path(load_settings().weights_dir)
    if is_bare_name and (folder / path.name).exists():
        verify_checksum(folder / path.name)
        return folder / path.name
    kind = "weights" if format_for_path(path).info.weights else "exported"
    hint = f" The bare name {path.name} downloads the public weights." if public_url else _suggest_weights(path)
    raise NotFoundError(
        f"The {kind} file {path} does not exist (searched in {Path.cwd()} and {folder}). Check the path.{hint}"
    )


def is_url(path: object) -> bool:
    """Return whether a model is named by its http(s) address."""
    return isinstance(path, str) and path.lower().startswith(("http://", "https://"))


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


# -- downloads -------------------------------------------------------------------------------------------------------


def _public_weights(name: str, url: str) -> Path:
    """Return the public weights of this name.

    The weights folder may hold a file of this name from another source. It is used only if its record names the
    publisher's address, or if it has no record, which means that the user put it there.
    """
    target = Path(load_settings().weights_dir) / name
    record = read_record(target)
    if target.exists():
        if record is None or record.source == zoo.public_weights_source(name):
            verify_checksum(target)
            return target
        if not record.source and git_blob_id(target) == zoo.observed_blob_id(name):
            return target
        LOGGER.warning(
            f"{target} is not known to come from {zoo.public_weights_source(name)}, so it is downloaded again. (Remove "
            f"{checksum_file(target)} to keep the file as your own.)"
        )
    spec = DownloadSpec(
        url=url,
        title=f"the weights {name}",
        max_bytes=_MAX_BYTES,
        license=zoo.public_weights_license(),
        manual_hint=f"put it into {target.parent} or into the current folder.",
        source=zoo.public_weights_source(name) or url,
    )
    return download(spec, target, partial(_check_public_weights, name))


def _weights_from_url(url: str) -> Path:
    """Return the file at an address. Each address has a folder, so that equal file names do not collide."""
    name = file_name_from_url(url, "weights.pt")
    target = Path(load_settings().weights_dir) / "urls" / url_digest(url) / name
    if target.exists():
        verify_checksum(target)
        return target
    spec = DownloadSpec(
        url=url,
        title=f"the weights {name}",
        max_bytes=_MAX_BYTES,
        manual_hint="open it by its path.",
    )
    return download(spec, target, partial(_check_weights, name))


def _check_weights(name: str, path: Path) -> None:
    """Reject a download that the restricted reader cannot read."""
    if name.endswith((".pt", ".pth", ".safetensors")):
        from yolopose.weights import read_checkpoint

        read_checkpoint(path)


def _check_public_weights(name: str, path: Path) -> None:
    _check_weights(name, path)
    observed = zoo.observed_blob_id(name)
    if observed and git_blob_id(path) != observed:
        LOGGER.warning(
            f"{name} differs from the file observed when this version was released (git id {observed}): the publisher "
            "may have changed it."
        )
