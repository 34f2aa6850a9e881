"""Names and arguments as people write them for the reference package: they work, or the error has the replacement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from few_images import SMALL, write_images
from servers import Server, whole
from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.cli import main

torch = pytest.importorskip("torch")
IMAGE = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> YOLO:
    monkeypatch.chdir(tmp_path)
    Path("small-pose.yaml").write_text(SMALL, encoding="utf-8")
    return YOLO("small-pose.yaml")


def test_name_without_suffix(small: YOLO, shared: Path, server: Server) -> None:
    server.answers["/v8.3.0/yolo11n-pose.pt"] = whole((shared / "checkpoints/yolo11n-pose.pt").read_bytes())
    assert YOLO("yolo11n-pose").model_name == "yolo11n-pose.pt"
    small.save("runs-best.pt")
    assert YOLO("runs-best").spec == small.spec
    with pytest.raises(UsageError, match=r"Did you mean model=yolo11n-pose\.pt"):
        YOLO("yolo11-n-pose")


def test_object_of_an_object_is_the_same_network(small: YOLO) -> None:
    assert YOLO(small).model is small.model


def test_weights_of_an_object_and_a_state_dict(small: YOLO) -> None:
    for source in (small, small.state_dict()):
        other = YOLO("small-pose.yaml").load(source)
        torch.testing.assert_close(next(other.parameters()), next(small.parameters()), rtol=0, atol=0)


def test_reset_weights(small: YOLO) -> None:
    before = next(small.parameters()).clone()
    assert small.load(small.state_dict()).reset_weights() is small
    assert not torch.equal(before, next(small.parameters()))
    assert small._untrained


def test_positional_stream(small: YOLO) -> None:
    results = small.predict([IMAGE] * 2, True, imgsz=64, verbose=False)
    assert iter(results) is results
    assert len(list(small(IMAGE, True, imgsz=64, verbose=False))) == 1


@pytest.mark.parametrize(
    ("mode", "arguments", "message"),
    [
        ("train", {"trainer": object}, r"trainer=….*model\.add_callback"),
        ("val", {"validator": object}, r"validator=….*model\.val\(\)\.record"),
        ("predict", {"source": IMAGE, "predictor": object}, "on_predict_postprocess_end"),
        ("predict", {"source": IMAGE, "save_dir": "out"}, "project='runs' name='first'"),
        ("predict", {"source": IMAGE, "mode": "val"}, "this is the mode predict"),
        ("train", {"model": "yolo11s-pose.pt"}, r"this object is small-pose\.yaml\. Open the other network"),
        ("predict", {"source": IMAGE, "model": "other.pt"}, "copy its weights"),
    ],
)
def test_arguments_that_would_be_ignored_are_errors(mode: str, arguments: dict, message: str, small: YOLO) -> None:
    with pytest.raises(UsageError, match=message):
        getattr(small, mode)(**arguments)


def test_values_that_mean_off_are_accepted(small: YOLO) -> None:
    accepted = {"trainer": None, "validator": None, "predictor": None, "embed": None, "mode": "predict"}
    small(IMAGE, imgsz=64, verbose=False, model="small-pose.yaml", **accepted)


@pytest.mark.parametrize("name", ["predictor", "transforms", "task_map", "cfg"])
def test_attributes_of_the_reference_name_their_replacement(name: str, small: YOLO) -> None:
    assert not hasattr(small, name)
    with pytest.raises(UsageError, match=f"YOLO.{name} does not exist in yolopose: "):
        getattr(small, name)


def test_data_as_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is that of a relative `path`; the weights remember the data set in another folder."""
    write_images(tmp_path / "world")
    monkeypatch.chdir(tmp_path)
    Path("small-pose.yaml").write_text(SMALL, encoding="utf-8")
    model = YOLO("small-pose.yaml")
    data = {
        "path": Path("world"),
        "train": "images/train",
        "val": ["images/val"],
        "kpt_shape": (5, 2),
        "flip_idx": np.arange(5),
        "names": {0: "a", 1: "b", 2: "c"},
    }
    model.train(data=data, epochs=1, imgsz=64, workers=0, plots=False, verbose=False)
    assert model.names == data["names"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = YOLO(tmp_path / model.model_name).val(plots=False, verbose=False)
    assert again.results_dict == model.val(data=data | {"path": tmp_path / "world"}, plots=False).results_dict
    with pytest.raises(UsageError, match=r"object as `names\.0`"):
        model.val(data={**data, "names": {0: object()}})


@pytest.mark.parametrize("name", ["coco8-pose.yaml", "mine.yaml"])
def test_data_yaml_given_as_the_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("path: .\ntrain: images\nval: images\nnames: [a]\nkpt_shape: [3, 3]\n")
    with pytest.raises(UsageError, match=f"{name} is a data YAML, not a network: give it as data={name}"):
        YOLO(name)


def test_int8_asks_for_images_instead_of_downloading(small: YOLO) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(UsageError, match=r"name a data set that has them, data=my-data\.yaml"):
        small.export(format="onnx", int8=True, imgsz=64, verbose=False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("solutions count", "`yolo solutions` does not exist"),
        ("login", "`yolo login` does not exist"),
        ("compare runs/pose/val", "a=runs/pose/val b=FOLDER"),
    ],
)
def test_words_of_the_command_line(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_folders_of_compare_need_no_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "runs/one", "runs/two"]) == 1
    output = capsys.readouterr()
    assert "a=runs/one b=runs/two" in output.out + output.err
    assert "runs/one" in output.err
