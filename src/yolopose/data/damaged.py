"""Images that turn out not to decode while they are used, and the limit on their number."""

from __future__ import annotations

from pathlib import Path

from yolopose.base.errors import DataError
from yolopose.base.log import LOGGER, warn_once

MAX_SHARE = 0.1
"""Share of the images of a split that may be damaged."""
MAX_FEW = 3
"""Number of damaged images that is always accepted, unless it is all of them."""
_LOGGED = 10  # damaged images that are logged one by one
_LISTED = 5  # images in an error or summary


class DamagedImages:
    """Collects the damaged images of a split; too many of them are an error.

    Args:
        data: the data YAML, for messages.
        split: name of the split.
        total: number of images of the split.
    """

    def __init__(self, data: str, split: str, total: int) -> None:
        self._data = data
        self._split = split
        self._total = total
        self._reasons: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def files(self) -> list[str]:
        """Paths of the damaged images, in the order in which they were added."""
        return list(self._reasons)

    def add(self, file: Path | str, reason: str) -> None:
        """Record an image and log a warning; an image that was added before changes nothing.

        Args:
            file: the image.
            reason: why it cannot be decoded, a sentence that names it.

        Raises:
            DataError: too many images of the split are damaged.
        """
        if str(file) in self._reasons:
            return
        self._reasons[str(file)] = reason
        count = len(self)
        if count > max(MAX_FEW, MAX_SHARE * self._total) or count == self._total:
            raise DataError(self._error())
        if count <= _LOGGED:
            more = " Further ones are only counted." if count == _LOGGED else ""
            warn_once(f"{reason} It is not used.{more}")  # a training validates the same images after each epoch

    def log_summary(self, *, once: bool = False) -> None:
        """Log how many images were not used; nothing if all were used.

        Args:
            once: not if this process has logged the same before.
        """
        if not self._reasons:
            return
        names = [Path(file).name for file in self._reasons]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        warn = warn_once if once else LOGGER.warning
        warn(
            f"{self._data}, {self._split}: {len(names)} of {self._total} images do not decode and were not used: "
            f"{', '.join(names[:_LISTED])}{more}. `yolo doctor data={self._data}` lists all of them."
        )

    def _error(self) -> str:
        reasons = list(self._reasons.values())
        listed = "".join(f"\n  {reason}" for reason in reasons[-_LISTED:])
        more = f"\n  … and {len(reasons) - _LISTED} before them" if len(reasons) > _LISTED else ""
        return (
            f"{self._data}, {self._split}: {len(reasons)} of {self._total} images do not decode so far; at most "
            f"{max(MAX_FEW, int(MAX_SHARE * self._total))} are skipped, and never all. The last ones:{listed}{more}\n"
            f"Copy the files again from where they come from, or remove them: `yolo doctor data={self._data} "
            "fix=FOLDER` lists all of them and writes a copy of the data set without them."
        )
