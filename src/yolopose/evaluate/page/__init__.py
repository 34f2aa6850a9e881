"""`report.html`: one file that shows a run, made of its record; its text, style and scripts lie in `parts/`."""

from yolopose.evaluate.page.counts import Counts, counts_at
from yolopose.evaluate.page.making import FILE, make_report, write_report

__all__ = ["FILE", "Counts", "counts_at", "make_report", "write_report"]
