"""Tables of rows as text: CSV, JSON, and a data frame where a library for it is installed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from yolopose.results import tables


class TableMixin(ABC):
    """Mixin for what has a `summary()` of rows with the same keys."""

    @abstractmethod
    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dict per row; the class itself says what is in it."""

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the summary as CSV text with a head line."""
        rows = self.summary(normalize, decimals)
        return tables.to_csv(rows, list(rows[0]) if rows else [])

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the summary as a JSON list of objects."""
        return tables.to_json(self.summary(normalize, decimals))

    def to_df(self, normalize: bool = False, decimals: int = 5) -> Any:
        """Return the summary as a polars (or else pandas) data frame.

        Raises:
            DependencyError: neither is installed.
        """
        rows = self.summary(normalize, decimals)
        return tables.to_dataframe(rows, list(rows[0]) if rows else [])
