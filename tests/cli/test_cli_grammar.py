from __future__ import annotations

from typing import Any

import pytest

from yolopose.base.errors import UsageError
from yolopose.cli.grammar import parse, parse_value


@pytest.mark.parametrize(
    ("line", "action", "options"),
    [
        ("pose predict source=a.jpg", "predict", {"source": "a.jpg"}),
        ("predict pose source=a.jpg", "predict", {"source": "a.jpg"}),
        ("val pose data=d.yaml", "val", {"data": "d.yaml"}),
        ("predict conf=.4 save", "predict", {"conf": 0.4, "save": True}),
        ("predict --conf=0.4", "predict", {"conf": 0.4}),
        ("predict conf = 0.4", "predict", {"conf": 0.4}),
        ("predict conf= 0.4", "predict", {"conf": 0.4}),
        ("predict conf =0.4", "predict", {"conf": 0.4}),
        ("predict conf=0.4, imgsz=320", "predict", {"conf": 0.4, "imgsz": 320}),
        ("predict save-txt=true", "predict", {"save_txt": True}),
        ("predict imgsz=[320,640]", "predict", {"imgsz": [320, 640]}),
        ("predict device=0,1", "predict", {"device": (0, 1)}),
        ("predict name=007", "predict", {"name": "007"}),
        ("predict project=1e5", "predict", {"project": "1e5"}),
        ("predict source=0", "predict", {"source": "0"}),
        (r"predict source=C:\pics\new.jpg", "predict", {"source": r"C:\pics\new.jpg"}),
        ("predict source=a=b.jpg", "predict", {"source": "a=b.jpg"}),
        ("predict conf=None", "predict", {"conf": None}),
        ("predict imgsz=[320, 640] save", "predict", {"imgsz": [320, 640], "save": True}),
        ("predict source=a[1.jpg save", "predict", {"source": "a[1.jpg", "save": True}),
        ("predict source=[1.jpg save", "predict", {"source": "[1.jpg", "save": True}),
        ("predict --conf 0.4 --save --imgsz 320", "predict", {"conf": 0.4, "save": True, "imgsz": 320}),
        ("task=pose mode=predict conf=0.4", "predict", {"conf": 0.4}),
        (r"train pretrained='C:\new.pt'", "train", {"pretrained": r"C:\new.pt"}),
        ("predict source='a.jpg'", "predict", {"source": "a.jpg"}),
        ("settings runs_dir=True", "settings", {"runs_dir": "True"}),
        ("settings mode=x", "settings", {"mode": "x"}),
        ("settings reset", "settings", {"reset": True}),
        ("help", "help", {}),
        ("", "help", {}),
        ("copy-cfg", "copy-cfg", {}),
        ("data split data=x.yaml val=0.2", "data split", {"data": "x.yaml", "val": 0.2}),
        ("pose data split data=x.yaml copy", "data split", {"data": "x.yaml", "copy": True}),
        ("data merge data=a.yaml,b.yaml", "data merge", {"data": "a.yaml,b.yaml"}),
        ("data split group=(v1)_ by=group", "data split", {"group": "(v1)_", "by": "group"}),
        ("data list", "data list", {}),
        ("data", "help", {}),
        ("label source=images to=cvat suggest=20", "label", {"source": "images", "to": "cvat", "suggest": 20}),
    ],
)
def test_parses_lines(line: str, action: str, options: dict[str, Any]) -> None:
    command = parse(line.split())
    assert (command.action, command.options) == (action, options)


@pytest.mark.parametrize("line", ["help val", "val help", "val --help", "pose val -h"])
def test_help_of_a_mode(line: str) -> None:
    command = parse(line.split())
    assert (command.action, command.topic) == ("help", "val")


@pytest.mark.parametrize(
    ("line", "topic"),
    [("help data", "data"), ("data help", "data"), ("help data split", "data split"), ("data get -h", "data get")],
)
def test_help_of_data(line: str, topic: str) -> None:
    command = parse(line.split())
    assert (command.action, command.topic) == ("help", topic)


@pytest.mark.parametrize(
    "line", ["predict --conf=0.4", "predict conf=0.4,", "predict conf = 0.4", "predict --conf 0.4", "val imgsz=[1, 2]"]
)
def test_unusual_spellings_are_noted_once(line: str) -> None:
    assert len(parse(line.split()).notes) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("segment predict", "poses only"),
        ("data splt data=x.yaml", "Did you mean 'split'"),
        ("data data=x.yaml", "subcommand of `data` is missing"),
        ("data get coco8-pose", "Did you mean name=coco8-pose"),
        ("data split x.yaml", "Did you mean data=x.yaml"),
        ("train data", "needs a value"),
        ("task=segment mode=predict", "poses only"),
        ("mode=pridict", "Did you mean 'predict'"),
        ("settings runs_dir", "needs a value"),
        ("predict --conf", "needs a value"),
        ("predict --model predict", "needs a value"),
        ("pose conf=0.4", "mode is missing"),
        ("predict val", "Give one mode"),
        ("predict model.pt", "Did you mean model=model.pt"),
        ("predict a/b.jpg", "Did you mean source=a/b.jpg"),
        ("val coco8.yaml", "Did you mean data=coco8.yaml"),
        ("pridict", "Did you mean 'predict'"),
        ("predict conf", "needs a value"),
        ("predict conf=", "has no value"),
        ("predict 3x=3", "is not an option"),
    ],
)
def test_refuses_bad_lines(line: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(line.split())
    assert message in str(error.value)


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("True", True), ("false", False), ("none", None)])
def test_literals(text: str, value: object) -> None:
    assert parse_value("lr0", text) == value


def test_values_are_not_evaluated() -> None:
    text = "__import__('os').getcwd()"
    assert parse_value("lr0", text) == text
