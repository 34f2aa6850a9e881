"""Errors of unreadable weights files: the file is damaged, or asks for something that reading weights never needs."""

from __future__ import annotations

from yolopose.base.errors import UnsafeFileError, WeightsError


def printable(text: object) -> str:
    """Return text from a file as printable ASCII of at most 80 characters."""
    plain = ascii(str(text))[1:-1]
    return plain if len(plain) <= 80 else plain[:77] + "..."


def damaged_error(path: str, reason: str) -> WeightsError:
    """Return the error for a file whose content is inconsistent."""
    return WeightsError(f"The weights file {path} is damaged: {reason}. Download or copy it again.")


def unsafe_error(path: str, what: str) -> UnsafeFileError:
    """Return the error for a file that asks for something reading weights never needs.

    Args:
        path: the file.
        what: what it asks for, to follow "asks for".
    """
    return UnsafeFileError(
        f"The weights file {path} asks for {what}, which reading weights never needs. It was refused, and nothing "
        "in the file was run. Do not open it with other programs unless you trust its source."
    )


def dill_error(path: str, name: str) -> UnsafeFileError:
    """Return the error for a file written with dill, which stores functions as code."""
    return UnsafeFileError(
        f"The weights file {path} was written with dill (it asks for {name}), which stores program code beside the "
        "weights. It was refused, and nothing in it was run. If you trust it, save only its weights with the package "
        'that wrote it, where dill is not installed: `torch.save(YOLO("old.pt").model.float().state_dict(), "new.pt")`'
        ', then use `YOLO("<its model>.yaml").load("new.pt")` here.'
    )
