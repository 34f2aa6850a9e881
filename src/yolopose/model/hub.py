"""Where the file is that a model name means; public weights are fetched when they are named."""

from __future__ import annotations

import glob
from pathlib import Path
from urllib.parse import urlsplit

from yolopose import zoo
from yolopose.base.download import DownloadSpec, download, git_blob_id, verify_checksum
from yolopose.base.errors import NotFoundError
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings
from yolopose.base.suggestions import suggest_path
from yolopose.formats import format_of

_LIMIT = 2_000_000_000  # bytes; the largest public pose weights have 150 million


def find_weights(path: str | Path) -> Path:
    """Find a file as named, else by its name in the weights folder of the settings, else where it is published.

    Args:
        path: a path, the name of public weights (`yolo11n-pose.pt`), or an http(s) address.

    Raises:
        NotFoundError: it is in none of these places.
        DownloadError: it is published, but cannot be fetched; or a fetched file has changed since.
        WeightsError: what was fetched is no weights file.
    """
    if is_url(path):
        return _fetch(str(path), urlsplit(str(path)).path.rsplit("/", 1)[-1], "")
    path = Path(path)
    if path.exists():
        return path
    folder = Path(load_settings().weights_dir)
    plain = path.parent == Path()
    if plain and (folder / path.name).exists():
        verify_checksum(folder / path.name)
        return folder / path.name
    address = zoo.public_weights_url(path.name)
    if plain and address:
        return _fetch(address, path.name, zoo.public_weights_license())
    kind = "exported file" if format_of(path).exportable else "weights file"
    hint = f" The name alone, {path.name}, fetches the public weights." if address else _hint(path)
    raise NotFoundError(f"There is no {kind} {path} (looked in {Path.cwd()} and {folder}). Check the path.{hint}")


def _hint(path: Path) -> str:
    """What is probably meant by a path that leads nowhere, as a sentence."""
    plain = path.parent == Path()
    if plain and path.suffix == ".pt" and zoo.is_shipped_model(path.stem):
        return f" No weights of {path.stem} are published; model={path.stem}.yaml is a new network, to be trained."
    meant = zoo.suggest_model_name(path.stem) if plain else None
    if meant is None:
        return suggest_path(path, "model") or _newest_of_runs(path)
    if path.suffix.lower() not in (".pt", ".pth"):
        return f" Make it first: yolo export model={meant}.pt format={format_of(path).name}"
    other_task = "-pose" not in path.stem.lower()
    why = "; networks of other tasks are not read" if other_task else ""
    return f" Did you mean model={meant}.pt? That is what weights of poses are named{why}."


def suggest_model(path: Path) -> str:
    """Return what a model without a known ending probably means, as a sentence with a blank before it, or nothing."""
    inside = next((file for file in (path / "weights/best.pt", path / "best.pt") if file.is_file()), None)
    if inside:
        return f" It is a folder of training: did you mean model={inside}?"
    if path.exists():
        return ""
    plain = path.stem if path.suffix else path.name
    name = plain if zoo.public_weights_url(f"{plain}.pt") else zoo.suggest_model_name(plain)
    if name:
        return f" Did you mean model={name}.pt (weights), or model={name}.yaml (a new network)?"
    return suggest_path(path, "model")


def _newest_of_runs(path: Path) -> str:
    """Where training left a file of this name last."""
    if path.parent != Path():
        return ""
    found = Path(load_settings().runs_dir).glob(f"pose/*/weights/{glob.escape(path.name)}")
    newest = max(found, key=lambda file: file.stat().st_mtime, default=None)
    return f" The newest that training left here is model={newest}." if newest else ""


def is_url(path: object) -> bool:
    """Whether a model is named by its http(s) address."""
    return isinstance(path, str) and path.lower().startswith(("http://", "https://"))


def _fetch(url: str, name: str, license: str) -> Path:
    """Fetch weights into the weights folder, once."""
    target = Path(load_settings().weights_dir) / name
    if target.exists():
        verify_checksum(target)
        return target
    wanted = DownloadSpec(
        url=url,
        title=f"the weights {name}",
        limit=_LIMIT,
        license=license,
        by_hand=f"put it into {target.parent} or into the current folder.",
    )
    return download(wanted, target, _check)


def _check(path: Path) -> None:
    """Refuse what the restricted reader does not read; says where a file differs from the one that was seen."""
    name = path.name.removeprefix(".").rsplit(".", 2)[0]  # .NAME.PID.part
    if name.endswith((".pt", ".pth", ".safetensors")):
        from yolopose.weights import read_checkpoint

        read_checkpoint(path)
    observed = zoo.observed_blob_id(name)
    if observed and git_blob_id(path) != observed:
        LOGGER.warning(
            f"{name} is not the file that was seen under this name when this version was made (git id {observed}): "
            "its publisher may have changed it."
        )
