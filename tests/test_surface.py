"""The public surface of the reference package: each name works here, or the migration page has what to use instead.

`YOLOPOSE_WRITE_DOCS=1 pytest tests/test_surface.py` writes docs/migration.md from `surface_table.py`.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import surface_table as table
from docs_setup import MODEL
from yolopose import YOLO
from yolopose.base.callbacks import EVENTS
from yolopose.cli import main
from yolopose.cli.grammar import parse
from yolopose.config import option_specs
from yolopose.config.unsupported import IGNORED_OPTIONS, REFUSED_ARGUMENTS
from yolopose.formats import get_format
from yolopose.results import Results
from yolopose.schema import KeypointSchema

torch = pytest.importorskip("torch")
PAGE = Path(__file__).parents[1] / "docs/migration.md"
QUIET = {"imgsz": 64, "verbose": False}
INTRO = """# Moving from `ultralytics`

Change the import line:

```python
from yolopose import YOLO  # from ultralytics import YOLO
```

The rest of a pose script stays. This page lists the public names of `ultralytics` 8.4.190 that concern poses: each
works here, or the row has what to use instead. It is generated from `tests/surface_table.py`, and
`tests/test_surface.py` runs every expression of it, so it stays true. `tests/migration_scripts` holds whole scripts as
people write them for `ultralytics`, which run with the import line changed.

Three things to know first:

- **An argument is never ignored silently.** One that would change a result is an error with the replacement; one that
  has no effect on poses, such as `overlap_mask`, is a warning.
- **Both packages can be in one environment.** They share nothing but the command `yolo`, which belongs to the one that
  was installed last; the command `yolopose` is always this package. OpenCV is not a dependency here, so
  `pip install "yolopose[torch]"` leaves the OpenCV of `ultralytics` as it is; `yolo checks` reports conflicts.
- **Results are the same to rounding, where the reference is consistent.** Differences on purpose:

| `ultralytics` | here |
|---|---|
| images of different shapes in one list are padded to one square batch, which changes the results | each image is processed as it would be individually |
| an unreadable image is dropped from the results | an empty result with `.error` |
| `best.pt` is stored in 16 bits | in 32 bits: it evaluates to the logged metrics |
| training options are the defaults | `recipe="auto"` chooses them from the data; `recipe="reference"` uses the defaults |
| `resume=True` on a finished run starts a new training | an error with the two ways to go on |
| one bad row of a label file drops the image | only the row is skipped, with a message |
| a command-line error is a traceback | one paragraph; `YOLO_DEBUG=1` adds the traceback |
| weights are downloaded into the current folder | into the weights folder |
| download scripts of data sets are executed | only archives are downloaded; more than 1 GB needs `download=True` |
| checkpoints and label caches are unpickled, which can run code | nothing is unpickled; public checkpoints are read |

"""


class World:
    """A trained small network, its files, and results of it; the names in expressions of the table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.yaml = folder / "person-pose.yaml"
        self.yaml.write_text(MODEL)
        self.data = write_dataset(folder / "own")
        self.image = cv2.imread(str(folder / "photo.jpg"))
        self.seen: set[str] = set()
        self.model = YOLO(self.yaml)
        for event in EVENTS:
            self.model.add_callback(event, lambda _, event=event: self.seen.add(event))
        self.train()
        self.predict()
        self.metrics = self.model.val(save_json=True, save_txt=True, conf=0.0, max_det=3, project="out", **QUIET)
        self.model.export(format="torchscript", **QUIET)
        for events in self.model.callbacks.values():
            events.clear()

    def train(self) -> None:
        self.model.train(
            data=str(self.data), epochs=1, batch=2, workers=0, project="runs/pose", save_period=1, device="cpu",
            recipe="reference", nbs=2, **QUIET,
        )  # fmt: skip
        self.run = Path("runs/pose/train").absolute()
        self.trainer = self.model.trainer

    def predict(self) -> None:
        options = {**QUIET, "conf": 0.0, "max_det": 3}
        files = ["photo.jpg", "clip.avi"]
        self.model.predict(files, save=True, save_txt=True, save_crop=True, save_frames=True, project="out", **options)
        schema = KeypointSchema.coco_person()
        rng = np.random.default_rng(0)
        points = np.concatenate((rng.uniform(5, 60, (3, 17, 2)), rng.uniform(0.3, 1, (3, 17, 1))), axis=2)
        boxes = np.array([[5, 5, 60, 60, 0.9, 0], [9, 9, 50, 50, 0.8, 0], [1, 2, 30, 40, 0.7, 0]], np.float32)
        kind = torch.from_numpy
        self.result = Results(
            self.image, "photo.jpg", {0: "person"}, boxes=kind(boxes), keypoints=kind(points.astype("f4")),
            schema=schema, speed={"preprocess": 1.0, "inference": 2.0, "postprocess": 1.0},
        )  # fmt: skip
        self.tracked = Results(
            self.image, "photo.jpg", {0: "person"}, boxes=kind(np.insert(boxes, 4, [1, 2, 3], axis=1)),
            keypoints=kind(points.astype("f4")), schema=schema,
        )  # fmt: skip

    def names(self) -> dict[str, Any]:
        """Return what expressions may use."""
        from PIL import Image

        columns = next(csv.reader((self.run / "results.csv").read_text().splitlines()))
        data_dict = {"path": str(self.folder / "own"), "train": "images", "val": "images", "names": ["person"]}
        data_dict |= {"kpt_shape": [17, 3], "flip_idx": list(range(17))}
        return {
            **vars(self), "YOLO": YOLO, "torch": torch, "cli": lambda word: main([word]), "parse": parse,
            "get_format": get_format, "columns": [column.strip() for column in columns], "data_dict": data_dict,
            "small": {**QUIET, "conf": 0.0, "max_det": 2}, "quiet": {**QUIET, "plots": False, "conf": 0.0},
            "quiet64": QUIET, "pil": Image.open("photo.jpg"), "val_folder": Path("out/val"),
            "predict_folder": Path("out/predict"),
        }  # fmt: skip


def write_dataset(root: Path) -> Path:
    """Write two images of noise with a person each, a folder of images, a list and a video."""
    rng = np.random.default_rng(0)
    for folder in (root / "images", root / "labels", root.parent / "photos"):
        folder.mkdir(parents=True)
    writer = cv2.VideoWriter(str(root.parent / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 64))
    for index in range(3):
        image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        writer.write(image)
        if index < 2:
            for folder in (root / "images", root.parent / "photos"):
                cv2.imwrite(str(folder / f"{index}.jpg"), image)
            points = " ".join(f"{x:.3f} {y:.3f} 2" for x, y in rng.uniform(0.2, 0.8, (17, 2)))
            (root / f"labels/{index}.txt").write_text(f"0 0.5 0.5 0.7 0.7 {points}\n")
        else:
            cv2.imwrite(str(root.parent / "photo.jpg"), image)
    writer.release()
    (root.parent / "list.txt").write_text("photos/0.jpg\nphotos/1.jpg\n")
    data = root / "own.yaml"
    data.write_text(
        f"path: {root}\ntrain: images\nval: images\nnames: [person]\nkpt_shape: [17, 3]\n"
        f"flip_idx: {list(KeypointSchema.coco_person().flip_idx or ())}\n"
    )
    return data


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("surface")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("YOLOPOSE_CONFIG_DIR", str(folder / "config"))
        return World(folder)


CASES = [(section, row) for section, rows in table.SECTIONS.items() for row in rows]


@pytest.mark.parametrize(
    ("section", "row"), [pytest.param(*case, id=f"{case[0]}: {case[1].name}") for case in CASES if case[1].works]
)
def test_works(section: str, row: table.Row, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder)
    value = eval(row.works, world.names())  # noqa: S307  # expressions of this project
    assert value is not None
    assert value is not False


def test_every_row_has_an_expression_or_a_replacement() -> None:
    assert [row.name for _, row in CASES if not row.works and not row.note] == []
    names = [(section, row.name) for section, row in CASES]
    assert len(set(names)) == len(names)
    assert set(table.EVENTS) == set(EVENTS)


ARGUMENTS = [(mode, name) for mode, names in table.ARGUMENTS.items() for name in names.split()]


def argument_note(mode: str, name: str) -> tuple[bool, str]:
    """Return whether an argument works, and the note of its row."""
    note = table.ARGUMENT_NOTES.get(name, "")
    if name in ("stream", "persist", "cfg") or (name in option_specs(mode) and not option_specs(mode)[name].unread):
        return True, note
    if name in REFUSED_ARGUMENTS:
        return False, REFUSED_ARGUMENTS[name]
    if name in IGNORED_OPTIONS:
        return False, IGNORED_OPTIONS[name][1]
    return False, note


@pytest.mark.parametrize(("mode", "name"), ARGUMENTS)
def test_arguments_work_or_have_a_replacement(mode: str, name: str) -> None:
    works, note = argument_note(mode, name)
    assert works or note


@pytest.mark.parametrize("mode", table.REFERENCE_DEFAULTS)
def test_defaults_are_those_of_the_reference(mode: str) -> None:
    specs = option_specs(mode)
    expected = dict(table.REFERENCE_DEFAULTS[mode])
    for (other, name), value in table.OTHER_DEFAULTS.items():
        if other == mode:
            assert expected[name] != value
            assert table.ARGUMENT_NOTES[name]
            expected[name] = value
    assert {name: specs[name].default for name in expected} == expected


def markdown() -> str:
    """Return the page."""
    counts = {True: 0, False: 0}
    lines: list[str] = []
    for section, rows in table.SECTIONS.items():
        lines += ["", f"## {section}", "", "| `ultralytics` | here | |", "|---|---|---|"]
        for row in rows:
            counts[bool(row.works)] += 1
            lines.append(_row(row.name, bool(row.works), row.note))
    lines += ["", "## Arguments", "", "Defaults are the same unless noted; `docs/options.md` lists all of ours.", ""]
    lines += ["| argument | in | here | |", "|---|---|---|---|"]
    modes: dict[tuple[str, bool, str], list[str]] = {}
    for mode, name in ARGUMENTS:
        modes.setdefault((name, *argument_note(mode, name)), []).append(mode)
    for (name, works, note), names in sorted(modes.items()):
        counts[works] += 1
        lines.append(f"| `{name}` | {', '.join(names)} | {'works' if works else 'instead'} | {_cell(note)} |")
    total = f"{counts[True]} names work, {counts[False]} have a replacement.\n"
    return INTRO + total + "\n".join(lines) + "\n"


def _row(name: str, works: bool, note: str) -> str:
    return f"| `{_cell(name)}` | {'works' if works else 'instead'} | {_cell(note)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def test_page_is_up_to_date() -> None:
    if os.environ.get("YOLOPOSE_WRITE_DOCS") == "1":
        PAGE.write_text(markdown(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == markdown(), "run YOLOPOSE_WRITE_DOCS=1 pytest tests/test_surface.py"
