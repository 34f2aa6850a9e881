"""Result of a benchmark: one row per format, as text, CSV, data frame and plot."""

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
class BenchmarkRow:
    """Results of one format; None for what could not be measured.

    Attributes:
        title: display name of the format.
        name: value of `format=`.
        megabytes: size of the file or folder.
        seconds: duration of the export.
        box: mAP50-95 of boxes.
        pose: mAP50-95 of poses.
        milliseconds: time of the network per image.
        agreement: largest differences from torch on a test image.
        note: reason for missing results.
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
        """Images per second at batch size 1."""
        return None if not self.milliseconds else 1000 / self.milliseconds


@dataclass(slots=True)
class Benchmark:
    """Table of a benchmark.

    Attributes:
        save_dir: folder of the files.
        rows: PyTorch first, then each format.
    """

    save_dir: Path
    rows: list[BenchmarkRow] = field(default_factory=list[BenchmarkRow])

    def __str__(self) -> str:
        return "\n".join([format_header(), *map(format_row, self.rows)])

    def summary(self) -> list[dict[str, Any]]:
        """Return one dictionary per format with the public column names."""
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


def format_header() -> str:
    """Return the header line of the printed table."""
    return "  ".join(form.format(name) for name, form in _COLUMNS).rstrip()


def format_row(row: BenchmarkRow) -> str:
    """Return the line of a row in the printed table."""
    difference = row.agreement
    if difference is None:
        difference_text = "-"
    elif difference.empty:
        difference_text = "no detections"
    else:
        difference_text = f"{difference.box:.2g}, {difference.score:.1g}, {difference.point:.2g}"
    columns = (
        row.title,
        _number(row.megabytes, ".1f"),
        _number(row.seconds, ".1f"),
        _number(row.box, ".4f"),
        _number(row.pose, ".4f"),
        _number(row.milliseconds, ".1f"),
        difference_text,
        row.note,
    )
    return "  ".join(form.format(text) for (_, form), text in zip(_COLUMNS, columns, strict=True)).rstrip()


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _draw(figure: Any, rows: list[BenchmarkRow]) -> None:
    """Plot accuracy over time per image, one point per format."""
    axes = figure.subplots()
    for row in rows:
        axes.scatter(row.milliseconds, row.pose, s=40)
        axes.annotate(row.title, (row.milliseconds, row.pose), xytext=(6, 4), textcoords="offset points", fontsize=9)
    axes.set_xlabel("ms per image (network only)")
    axes.set_ylabel("pose mAP50-95")
    axes.set_xlim(left=0)
    axes.margins(x=0.2, y=0.2)
    axes.grid(alpha=0.3)
