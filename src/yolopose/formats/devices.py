"""Devices as users write them, read without any engine."""

from __future__ import annotations

from yolopose.base.errors import UsageError


def single_device(device: object) -> str:
    """Returns any accepted spelling of one device as lower-case text: `""` (the best there is), `cpu`, `cuda:0`, `mps`.

    Args:
        device: `None`, `""`, `"cpu"`, `0`, `"0"`, `"cuda"`, `"cuda:0"`, `[0]`, `"mps"`, or what prints as one of these.

    Raises:
        UsageError: it names several.
    """
    if isinstance(device, (list, tuple)):
        parts = [str(part) for part in device]
    else:
        parts = "" if device is None else str(device).strip().lower().strip("[]()")
        parts = [part.strip() for part in parts.split(",") if part.strip()]
    if len(parts) > 1:
        raise UsageError(
            f"device={device!r} names {len(parts)} devices, and only a training computes on several: name one of them."
        )
    text = parts[0].lower() if parts else ""
    if text == "none":
        return ""
    return f"cuda:{text}" if text.isdigit() else text
