"""Devices and number formats as users write them, read without any engine."""

from __future__ import annotations

from pathlib import Path

from yolopose.base.errors import UsageError
from yolopose.base.log import warn_once


def single_device(device: object) -> str:
    """Return any accepted spelling of one device as lower-case text: `""` (the best there is), `cpu`, `cuda:0`, `mps`.

    Args:
        device: `None`, `""`, `"cpu"`, `0`, `"0"`, `"cuda"`, `"cuda:0"`, `[0]`, `"mps"`, or what prints as one of these.

    Raises:
        UsageError: it names several.
    """
    names = device_names(device)
    if len(names) > 1:
        raise UsageError(
            f"device={device!r} names {len(names)} devices, and only a training computes on several: name one of them."
        )
    text = names[0] if names else ""
    return f"cuda:{text}" if text.isdigit() else text


def device_names(device: object) -> list[str]:
    """Return the devices that are named, as lower-case texts; none for `None` and `""`.

    Args:
        device: one device or several, as `single_device` takes one: `"0,1"`, `[0, 1]`, `"cpu,cpu"`.
    """
    if isinstance(device, (list, tuple)):
        parts = [str(part) for part in device]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    else:
        parts = ("" if device is None else str(device)).strip().strip("[]()").split(",")
    names = [part.strip().lower() for part in parts]
    return [name for name in names if name not in ("", "none")]


def cpu_only(device: object, title: str) -> None:
    """Refuse another device than the CPU for files that run there alone.

    Raises:
        UsageError: another one is named.
    """
    if single_device(device) not in ("", "cpu"):
        raise UsageError(f"device={device!r}: this version runs {title} files on the CPU alone; give device=cpu.")


def say_half_is_settled(half: bool, path: Path) -> None:
    """Return once that a file of this kind computes in the numbers that it was exported with."""
    if half:
        warn_once(f"half=True has no effect on {path.name}: export it with half=True for 16-bit numbers.")
