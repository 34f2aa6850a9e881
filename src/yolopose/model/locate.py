"""Where the file is that a model name means."""

from __future__ import annotations

from pathlib import Path

from yolopose import zoo
from yolopose.base.errors import NotFoundError
from yolopose.base.settings import load_settings


def find_weights(path: Path) -> Path:
    """Finds a weights file as named, else by its name in the weights folder of the settings.

    Raises:
        NotFoundError: it is in neither place; the text says where public weights are to be had.
    """
    if path.exists():
        return path
    folder = Path(load_settings().weights_dir)
    if path.parent == Path() and (folder / path.name).exists():
        return folder / path.name
    address = zoo.public_weights_address(path.name)
    hint = (
        f" It is the name of public weights (AGPL-3.0): fetch {address} and put the file into the current folder "
        "or into the weights folder; this version does not download by itself."
        if address and path.parent == Path()
        else " Check the path."
    )
    kind = "exported file" if path.suffix.lower() not in (".pt", ".pth", ".safetensors") else "weights file"
    raise NotFoundError(f"There is no {kind} {path} (looked in {Path.cwd()} and {folder}).{hint}")
