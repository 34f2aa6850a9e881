from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import yolopose
from yolopose.base.errors import NotFoundError, UsageError
from yolopose.config import (
    MODES,
    PredictOptions,
    ValOptions,
    check_options,
    default_options,
    make_options,
    modes_by_option,
    option_specs,
)


@pytest.mark.parametrize("mode", MODES)
def test_defaults_pass_their_checks(mode: str) -> None:
    given = default_options(mode)
    assert vars(make_options(mode, given)) == {
        key: list(value) if isinstance(value, tuple) else value for key, value in given.items()
    }


@pytest.mark.parametrize("mode", MODES)
def test_every_option_has_help(mode: str) -> None:
    assert all(key.help and "\n" not in key.help for key in option_specs(mode).values())


def test_public_defaults() -> None:
    predict, val = make_options("predict", {}), make_options("val", {})
    assert isinstance(predict, PredictOptions)
    assert isinstance(val, ValOptions)
    assert (predict.iou, predict.imgsz, predict.max_det, predict.vid_stride) == (0.7, 640, 300, 1)
    assert (val.batch, val.split, val.rect, val.plots) == (16, "val", True, True)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("conf", 1, 1.0),
        ("imgsz", (320, 640), [320, 640]),
        ("imgsz", 320.0, 320),
        ("classes", [0, 2], [0, 2]),
        ("classes", 1, 1),
        ("device", 0, 0),
        ("device", "cpu", "cpu"),
        ("device", (0, 1), [0, 1]),
        ("name", 7, "7"),
        ("project", Path("a/b"), str(Path("a/b"))),
        ("save", 1, True),
        ("source", ["a.jpg", 3], ["a.jpg", 3]),
        ("conf", np.float32(0.5), 0.5),
        ("imgsz", np.int64(320), 320),
        ("classes", np.array([0, 2]), [0, 2]),
        ("classes", range(2), [0, 1]),
    ],
)
def test_values_are_converted_to_the_declared_type(key: str, value: object, expected: object) -> None:
    result = getattr(make_options("predict", {key: value}), key)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("mode", "given", "message"),
    [
        ("predict", {"conf": 1.5}, "conf=1.5 is out of range: it goes from 0 to 1"),
        ("predict", {"conf": float("nan")}, "out of range"),
        ("predict", {"conf": "high"}, "conf='high' is not possible: it takes a number or None"),
        ("predict", {"max_det": 0}, "out of range"),
        ("predict", {"max_det": 2.5}, "it takes an integer"),
        ("predict", {"save": "maybe"}, "it takes True or False"),
        ("predict", {"imgsz": [1, 2, 3]}, "one side, or height,width"),
        ("predict", {"imgsz": [0, 640]}, "out of range"),
        ("predict", {"classes": ["person"]}, "a list of integers"),
        ("predict", {"classes": [-1]}, "out of range"),
        ("predict", {"imgzs": 640}, "Did you mean 'imgsz'"),
        ("predict", {"cfg": 3}, "path of a YAML file"),
        ("predict", {"line_width": 0}, "out of range: it goes from 1 up"),
        ("train", {"amp": "fp17"}, "Did you mean 'fp16'"),
        ("train", {"cache": "disc"}, "Did you mean 'disk'"),
        ("val", {"split": "vla"}, "Did you mean 'val'"),
        ("val", {"xyz": 1}, "yolo help val"),
        ("pridict", {}, "Did you mean 'predict'"),
    ],
)
def test_bad_values_are_explained(mode: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        make_options(mode, given)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", 3, "epochs=3 has no effect in predict (it is an option of train)"),
        ("int8", True, "int8=True has no effect in predict and is ignored: export to 8 bits with export(int8=True"),
        ("retina_masks", True, "retina_masks=True has no effect in predict and is ignored: it belongs to another task"),
        ("retina_masks", False, ""),
        ("int8", False, ""),
        ("mode", "predict", ""),
    ],
)
def test_options_without_effect_are_ignored(
    key: str, value: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_options("predict", {key: value}) == make_options("predict", {})
    noted = capsys.readouterr().err
    assert message in noted
    assert bool(noted) == bool(message)


def test_check_options_returns_only_given_options() -> None:
    result = check_options("predict", {"conf": 1, "epochs": 3})
    assert result == {"conf": 1.0}
    assert check_options("predict", result) == result


def test_accepts_torch_devices() -> None:
    torch = pytest.importorskip("torch")
    assert make_options("predict", {"device": torch.device("cuda:1")}).device == "cuda:1"


# what a training of the reference (8.4.190, CPU, one epoch) wrote into args.yaml, in part; then keys of older versions
OLD_ARGS = """
task: pose
mode: train
model: yolo11n-pose.yaml
batch: 16
amp: false
overlap_mask: true
conf: null
dnn: false
tracker: tracktrack.yaml
copy_paste: 0.0
dlog: 1.0
dgrad: 0.5
dlam: 1.0
workspace: null
save_dir: runs/pose/train
multi_scale: false
resume: null
boxes: true
fl_gamma: 0.0
label_smoothing: 0.0
v5loader: false
"""


@pytest.mark.parametrize("mode", [mode for mode in MODES if "model" in option_specs(mode)])
def test_old_args_files_load_silently_in_every_mode(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "args.yaml"
    file.write_text(OLD_ARGS, encoding="utf-8")
    result = make_options(mode, {"cfg": file})
    assert result.model == "yolo11n-pose.yaml"
    assert getattr(result, "conf", None) is None
    assert capsys.readouterr().err == ""


def test_given_options_win_over_cfg(tmp_path: Path) -> None:
    file = tmp_path / "args.yaml"
    file.write_text("task: pose\nmode: train\nepochs: 5\nconf: 0.5\niou: 0.6\nmask_ratio: 4\n", encoding="utf-8")
    result = make_options("predict", {"cfg": str(file), "iou": 0.4})
    assert isinstance(result, PredictOptions)
    assert (result.conf, result.iou) == (0.5, 0.4)


def test_cfg_file_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothere"):
        make_options("predict", {"cfg": str(tmp_path / "nothere.yaml")})
    file = tmp_path / "args.yaml"
    for line, message in (("cnof: 0.5", "Did you mean 'conf'"), ("conf: 5", "out of range"), ("iou: x", "a number")):
        file.write_text(line, encoding="utf-8")
        with pytest.raises(UsageError, match=rf"args\.yaml.*{message}"):
            make_options("predict", {"cfg": str(file)})


def test_modes_by_option() -> None:
    assert modes_by_option()["conf"] == ("train", "val", "predict", "export", "track", "batch", "serve", "tune")
    assert {"predict", "track", "convert", "label", "data get"} <= set(modes_by_option()["source"])


@pytest.mark.parametrize(
    ("mode", "given", "meant"),
    [
        ("predict", "confidence", "conf"), ("predict", "thresh", "conf"), ("predict", "image_size", "imgsz"),
        ("train", "img", "imgsz"), ("train", "size", "imgsz"), ("train", "epoch", "epochs"), ("train", "lr", "lr0"),
        ("train", "batch_size", "batch"), ("val", "weights", "model"), ("train", "dataset", "data"),
        ("predict", "gpu", "device"), ("predict", "output_dir", "project"), ("convert", "out", "output"),
        ("predict", "Images", "source"), ("predict", "conff", "conf"),
    ],
)  # fmt: skip
def test_suggests_names_of_other_tools(mode: str, given: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"'{given}'. Did you mean '{meant}'"):
        make_options(mode, {given: 1})


def test_ignored_option_suggests_a_synonym(capsys: pytest.CaptureFixture[str]) -> None:
    make_options("predict", {"output": "here"})
    assert "is ignored. Did you mean 'project'?" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["320x240", "640px"])
def test_explains_imgsz_syntax(value: str) -> None:
    with pytest.raises(UsageError, match=r"imgsz=320,240 is 320 pixels high"):
        make_options("predict", {"imgsz": value})


def read_somewhere() -> set[str]:
    """Name that the code asks options for, or names as text, outside their declaration."""
    root = Path(yolopose.__file__).parent
    code = "".join(file.read_text() for file in root.rglob("*.py") if file.parent.name not in ("config", "cli"))
    code += (root / "zoo/formats.yaml").read_text()
    return set(re.findall(r"\.([a-z_0-9]+)\b", code)) | set(re.findall(r"[\"'\[ ]([a-z_0-9]+)[\"',\]]", code))


@pytest.mark.parametrize("mode", ["train", "val", "export", "convert"])
def test_unread_options_are_marked(mode: str) -> None:
    unread = set(option_specs(mode)) - read_somewhere()
    assert {name for name, key in option_specs(mode).items() if key.unread} == unread


def test_unread_option_warns_once(capsys: pytest.CaptureFixture[str]) -> None:
    make_options("train", {"profile": False})
    assert capsys.readouterr().err == ""
    for _ in range(2):
        make_options("train", {"profile": True})
    assert capsys.readouterr().err.count("profile=True is not used in this version yet") == 1
    assert option_specs("train")["profile"].description.endswith("(not used in this version yet)")
    assert "not used" not in option_specs("train")["epochs"].description


def test_choices_ignore_case() -> None:
    assert make_options("train", {"optimizer": "adamw"}).optimizer == "AdamW"
    assert make_options("train", {"optimizer": "AUTO"}).optimizer == "auto"
