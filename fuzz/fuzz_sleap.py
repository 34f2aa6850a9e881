"""SLEAP projects: a case is the JSON inside of a project file, in which the arrays stay as they are."""

from __future__ import annotations

import shutil

from instrumented import instrument

with instrument():
    import h5py
    from annotations import check_image
    from harness import FUZZ, Target, main, work_folder

    from yolopose.data.convert.conversion import read_annotations
    from yolopose.data.convert.record import IssueLog
    from yolopose.data.convert.registry import get_format

    get_format("sleap")  # imports the module of the format

_FOLDER = work_folder()
_PROJECT = FUZZ / "project.slp"


def run(data: bytes) -> None:
    """Read one case."""
    path = _FOLDER / "a.slp"
    shutil.copyfile(_PROJECT, path)
    with h5py.File(path, "r+") as file:
        try:
            file["metadata"].attrs["json"] = data.decode("utf-8", "surrogateescape")
        except (ValueError, UnicodeError, OSError):  # HDF5 cannot store it
            return
    record = read_annotations(path, source_format="sleap")
    for image in record.images(IssueLog()):
        check_image(image)


TARGET = Target(
    "sleap", run, [b'"nodes"', b'"links"', b'"skeletons"', b'"provenance"', b'"py/id"', b'"symmetry"'], json=True
)

if __name__ == "__main__":
    main(TARGET)
