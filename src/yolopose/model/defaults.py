"""Defaults of the calls of a `YOLO` object: what the weights remember, and what the user sets in `overrides`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolopose.base.log import LOGGER
from yolopose.config import CheckedOptions, check_options, check_overrides, make_options, option_specs

# training arguments of a checkpoint that are defaults of later calls, by mode; the others concern only training
REMEMBERED = {
    "predict": ("imgsz",),
    "track": ("imgsz",),
    "embed": ("imgsz",),
    "label": ("imgsz",),
    "export": ("imgsz",),
    "benchmark": ("data", "imgsz"),
    "val": ("data", "imgsz", "single_cls"),
    "train": ("data", "imgsz", "single_cls"),
    "tune": ("data", "imgsz", "single_cls"),
    "calibrate": ("data", "imgsz"),
}
# modes whose precision `half()` sets; those that write networks have options of their own
_HALF_MODES = ("predict", "track", "embed", "label", "val", "benchmark")


class CallDefaults:
    """Completes the options of a call.

    Args:
        overrides: the public dictionary `YOLO.overrides`; values that differ from the remembered ones are the user's.
        placement: `device` and `half` that `YOLO.to`, `half` and the others have set.
    """

    def __init__(self, overrides: dict[str, Any], placement: dict[str, Any]) -> None:
        self.overrides = overrides
        self.placement = placement
        self._remembered = dict(overrides)

    def remember(self, values: Mapping[str, Any]) -> None:
        """Store values of the weights in `overrides`, except those that the user has changed there."""
        changed = self._changed()
        self.overrides.update({name: value for name, value in values.items() if name not in changed})
        self._remembered.update(values)

    def _changed(self) -> dict[str, Any]:
        """Return what the user has set in `overrides`."""
        remembered = self._remembered
        return {
            name: value
            for name, value in self.overrides.items()
            if name not in remembered or type(remembered[name]) is not type(value) or remembered[name] != value
        }

    def with_overrides(self, given: CheckedOptions) -> CheckedOptions:
        """Add device and precision of the object and the user's `overrides`; options of the call win over them.

        Raises:
            UsageError: an option is unknown, or its value is impossible.
        """
        placed = {
            name: value
            for name, value in self.placement.items()
            if name in option_specs(given.mode) and (name != "half" or given.mode in _HALF_MODES)
        }
        return CheckedOptions(given.mode, {**placed, **check_overrides(given.mode, self._changed()), **given})

    def complete(self, given: CheckedOptions) -> Any:
        """Return the options of a call, with `overrides`, what the weights remember, and the defaults."""
        given = self.with_overrides(given)
        names = [name for name in REMEMBERED[given.mode] if name in self.overrides and name not in given]
        remembered = check_options(given.mode, {name: self.overrides[name] for name in names})
        if "data" in remembered and not given.get("resume") and given.get("verbose", True):
            LOGGER.info(f"No data= given: using {remembered['data']}, on which these weights were trained.")
        return make_options(given.mode, CheckedOptions(given.mode, {**remembered, **given}))
