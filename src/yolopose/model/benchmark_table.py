"""What a benchmark gives: a row for each format, as text, CSV, data frame and image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolopose.base.files import write_text
from yolopose.evaluate.plots import new_figure, save_figure
from yolopose.formats.agreement import Agreement
from yolopose.results.tables import to_csv, to_dataframe

_COLUMNS = (
    ("Format", "{:<18}"),
    ("Size (MB)", "{:>9}"),
    ("Export (s)", "{:>10}"),
    ("Box mAP50-95", "{:>12}"),
    ("Pose mAP50-95", "{:>13}"),
    ("ms/im", "{:>7}"),
    ("From torch (px, score, px)", "{:<26}"),
    ("", "{}"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One format; what could not be done is None.

    Attributes:
        title: of the format, for people.
        name: of the format, as `format=` takes it.
        megabytes: size of the file or folder.
        seconds: that the export took.
        box: mAP50-95 of boxes.
        pose: mAP50-95 of poses.
        milliseconds: of the network for one image.
        agreement: largest differences to torch on an image.
        note: why something could not be done.
    """

    title: str
    name: str
    megabytes: float | None = None
    seconds: float | None = None
    box: float | None = None
    pose: float | None = None
    milliseconds: float | None = None
    agreement: Agreement | None = None
    note: str = ""

    @property
    def fps(self) -> float | None:
        """Images a second through the network, one at a time."""
        return None if not self.milliseconds else 1000 / self.milliseconds


@dataclass(slots=True)
class Benchmark:
    """The table of a benchmark.

    Attributes:
        save_dir: folder of the files.
        rows: the network in torch, then each format.
    """

    save_dir: Path
    rows: list[Row] = field(default_factory=list[Row])

    def __str__(self) -> str:
        return "\n".join([title(), *map(line, self.rows)])

    def summary(self) -> list[dict[str, Any]]:
        """Return a dictionary for each format, under the names that the public interface gives its columns."""
        return [
            {
                "Format": row.title,
                "Status❔": "✅" if row.pose is not None else "❎" if row.megabytes is not None else "❌",
                "Size (MB)": row.megabytes,
                "Export (s)": row.seconds,
                "metrics/mAP50-95(B)": row.box,
                "metrics/mAP50-95(P)": row.pose,
                "Inference time (ms/im)": row.milliseconds,
                "FPS": row.fps,
                "Box from torch (px)": row.agreement.box if row.agreement else None,
                "Score from torch": row.agreement.score if row.agreement else None,
                "Keypoint from torch (px)": row.agreement.point if row.agreement else None,
                "Note": row.note,
            }
            for row in self.rows
        ]

    def to_csv(self) -> str:
        """Return the table as CSV."""
        rows = self.summary()
        return to_csv(rows, list(rows[0]))

    def to_df(self) -> Any:
        """Return the table as a polars or pandas data frame.

        Raises:
            DependencyError: neither is installed.
        """
        rows = self.summary()
        return to_dataframe(rows, list(rows[0]))

    def write(self, plots: bool) -> None:
        """Write `benchmark.csv`, and `benchmark.png` for `plots`, into the folder.

        Raises:
            OutputError: a file cannot be written.
        """
        write_text(self.save_dir / "benchmark.csv", self.to_csv())
        figure = new_figure(9, 5) if plots else None
        if figure is not None:
            _draw(figure, [row for row in self.rows if row.pose is not None])
            save_figure(figure, self.save_dir / "benchmark.png")


def title() -> str:
    """Return the headings of the printed table."""
    return "  ".join(form.format(name) for name, form in _COLUMNS).rstrip()


def line(row: Row) -> str:
    """Return a row as printed."""
    apart = row.agreement
    between = "-" if apart is None else "nothing found" if apart.empty else f"{apart.box:.2g}, {apart.score:.1g}, "
    cells = (
        row.title,
        _number(row.megabytes, ".1f"),
        _number(row.seconds, ".1f"),
        _number(row.box, ".4f"),
        _number(row.pose, ".4f"),
        _number(row.milliseconds, ".1f"),
        between + (f"{apart.point:.2g}" if apart and not apart.empty else ""),
        row.note,
    )
    return "  ".join(form.format(cell) for (_, form), cell in zip(_COLUMNS, cells, strict=True)).rstrip()


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _draw(figure: Any, rows: list[Row]) -> None:
    """Accuracy over time, a point for each format."""
    axes = figure.subplots()
    for row in rows:
        axes.scatter(row.milliseconds, row.pose, s=40)
        axes.annotate(row.title, (row.milliseconds, row.pose), xytext=(6, 4), textcoords="offset points", fontsize=9)
    axes.set_xlabel("ms per image (network alone)")
    axes.set_ylabel("pose mAP50-95")
    axes.set_xlim(left=0)
    axes.margins(x=0.2, y=0.2)
    axes.grid(alpha=0.3)
