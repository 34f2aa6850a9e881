"""The page of the doctor, `doctor.html`: findings with images in one file."""

from yolopose.tools.doctor_page.build import write_page

__all__ = ["write_page"]
