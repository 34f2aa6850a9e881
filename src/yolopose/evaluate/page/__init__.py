"""`report.html`: a self-contained page that shows a run, made from its record and the files in `parts/`."""

from yolopose.evaluate.page.build import REPORT_FILE, make_report, write_report

__all__ = ["REPORT_FILE", "make_report", "write_report"]
