"""Targets that read annotations: a case is a file, or several files separated by a line `=====`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from harness import Target, work_folder, write_parts


def annotation_target(
    name: str,
    read: Callable[..., Any],
    log: Callable[[], Any],
    files: Sequence[str],
    source: str = "",
    tokens: Sequence[bytes] = (),
    json: bool = False,
) -> Target:
    """Return the target of an annotation format.

    Args:
        name: name of the target and of its corpus.
        read: `read_annotations` with the name of the format.
        log: `IssueLog`.
        files: names of the files of a case; the first byte of a case chooses no name.
        source: the file that is read; the folder if empty.
        tokens: texts that mutations insert.
        json: whether the cases are JSON.
    """
    folder = work_folder()

    def run(data: bytes) -> None:
        write_parts(folder, files, data)
        record = read(folder / source)
        for template in record.classes:
            assert isinstance(template.name, str)
        for image in record.images(log()):
            check_image(image)

    return Target(name, run, tokens, json=json)


def check_image(image: Any) -> None:
    """Check that a record has the types and finite numbers that writers rely on."""
    assert isinstance(image.name, str)
    for side in (image.width, image.height):
        assert side is None or (isinstance(side, int) and side > 0)
    for instance in image.instances:
        assert isinstance(instance.category, str)
        assert instance.box is None or all(math.isfinite(value) for value in instance.box.corners)
        assert instance.area is None or math.isfinite(instance.area)
        for x, y, *_ in instance.points.values():
            assert math.isfinite(x)
            assert math.isfinite(y)
