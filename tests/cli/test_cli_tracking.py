"""`yolo evaluate` and `yolo smooth`: tables, files, and one plain error for wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from yolopose.cli import main
from yolopose.data.tracks import Tracks, read_tracks, write_tracks

pytest.importorskip("scipy")


def make_tracks(noise: float = 0.0, drop: int = 0) -> Tracks:
    rng = np.random.default_rng(0)
    frames = np.array([number for number in range(1, 31) if number != drop])
    points = np.zeros((len(frames), 3, 3))
    points[..., 0] = 10 * np.arange(3) + frames[:, None]
    points[..., :2] += rng.normal(0, noise, (len(frames), 3, 2)) if noise else 0
    points[..., 2] = 1
    boxes = np.array([0.0, 0, 40, 40]) + np.outer(frames, (1.0, 0, 1, 0))
    return Tracks.build(
        frames=frames, ids=np.ones(len(frames)), boxes=boxes, keypoints=points, frame_numbers=range(1, 31), name="a.mp4"
    )


def test_evaluate_prints_boxes_and_poses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks = write_tracks(tmp_path / "tracks.jsonl", make_tracks(0.3, drop=7))
    gt = write_tracks(tmp_path / "gt.jsonl", make_tracks())
    scores = tmp_path / "scores.json"
    assert main(["evaluate", f"tracks={tracks}", f"truth={gt}", f"output={scores}"]) == 0
    text = capsys.readouterr().out
    assert "Boxes (IoU)" in text
    assert "Poses (OKS)" in text
    assert "Jitter" in text
    parsed = json.loads(scores.read_text())
    assert parsed["box"]["combined"]["FN"] == 1
    assert 0.5 < parsed["oks"]["combined"]["HOTA"] < 1
    assert main(["evaluate", f"tracks={tracks}", f"truth={gt}", "similarity=box", "threshold=0.9"]) == 0
    assert "Poses" not in capsys.readouterr().out


def test_evaluate_reads_sigmas_of_a_data_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks = write_tracks(tmp_path / "tracks.jsonl", make_tracks(0.5))
    gt = write_tracks(tmp_path / "gt.jsonl", make_tracks())
    hota: list[float] = []
    for sigma in (0.01, 0.2):
        data = tmp_path / "data.yaml"
        data.write_text(f"kpt_shape: [3, 3]\nkpt_oks_sigmas: [{sigma}, {sigma}, {sigma}]\nnames: [a]\n")
        output = tmp_path / "scores.json"
        arguments = [f"tracks={tracks}", f"truth={gt}", "similarity=oks", f"data={data}", f"output={output}"]
        assert main(["evaluate", *arguments]) == 0
        hota.append(json.loads(output.read_text())["oks"]["combined"]["HOTA"])
    assert hota[0] < hota[1]


def test_smooth_writes_a_new_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_tracks(tmp_path / "walk.jsonl", make_tracks(0.5, drop=12))
    for method in ("rts", "savgol", "one_euro"):
        target = tmp_path / f"{method}.jsonl"
        assert main(["smooth", f"source={source}", f"output={target}", f"method={method}"]) == 0
        (smoothed,) = read_tracks(target)
        assert smoothed.raw_keypoints is not None
        assert smoothed.interpolated.sum() == (0 if method == "one_euro" else 1)
    assert main(["smooth", f"source={source}", "format=deeplabcut", f"output={tmp_path / 'd.csv'}"]) == 0
    assert (tmp_path / "d.csv").read_text().startswith("scorer,yolopose")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "tracks=a.jsonl"], "yolo evaluate tracks="),
        (["evaluate", "tracks=a.jsonl", "truth=b.jsonl"], "The track file a.jsonl does not exist"),
        (["evaluate", "tracks=a.jsonl", "gt=b.jsonl"], "Did you mean 'truth'"),
        (["smooth"], "yolo smooth source="),
        (["smooth", "source=a.mp4"], "does not exist"),
        (["smooth", "source=a.jsonl", "method=median"], "it is one of rts, savgol, one_euro"),
        (["smooth", "source=a.jsonl", "method=savgol", "window=4"], "window is an odd number"),
    ],
)
def test_wrong_input(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("mode", ["evaluate", "smooth"])
def test_help(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", mode]) == 0
    assert f"yolo pose {mode} key=value" in capsys.readouterr().out
