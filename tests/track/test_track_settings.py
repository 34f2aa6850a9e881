from __future__ import annotations

from pathlib import Path

import pytest

from yolopose.base.errors import DependencyError, NotFoundError, UsageError
from yolopose.track import make_tracker, read_tracker_settings
from yolopose.zoo import tracker_yaml_names

# Files as users of the reference package have them.
REFERENCE = """
tracker_type: botsort
track_high_thresh: 0.3
track_low_thresh: 0.1
new_track_thresh: 0.4
track_buffer: 60
match_thresh: 0.7
fuse_score: True
gmc_method: sparseOptFlow
proximity_thresh: 0.5
appearance_thresh: 0.8
with_reid: False
model: auto
"""


def test_shipped_files() -> None:
    assert tracker_yaml_names() == ["botsort.yaml", "bytetrack.yaml", "ocsort.yaml", "oks.yaml"]
    for name in tracker_yaml_names():
        settings = read_tracker_settings(name)
        assert settings == read_tracker_settings(Path(name).stem)
        assert f"{settings.tracker_type}.yaml" == name
        assert settings.buffer == (2.0 if name == "oks.yaml" else 1.0)


def test_file_of_the_reference(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(REFERENCE)
    settings = read_tracker_settings(path)
    assert (settings.track_high_thresh, settings.new_track_thresh, settings.match_thresh) == (0.3, 0.4, 0.7)
    assert (settings.buffer, settings.gmc_method, settings.fuse_score) == (2.0, "sparseOptFlow", True)
    assert settings.remove_duplicates  # a key that the file lacks has the value of botsort.yaml


def test_other_names_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "oc.yaml"
    path.write_text("tracker_type: ocsort\ndet_thresh: 0.4\nmax_age: 15\niou_threshold: 0.25\ngmc_method: False\n")
    settings = read_tracker_settings(path)
    assert (settings.track_high_thresh, settings.buffer, settings.match_thresh) == (0.4, 0.5, 0.75)
    assert settings.gmc_method == "none"


def test_appearance_is_ignored_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(REFERENCE.replace("with_reid: False", "with_reid: True"))
    read_tracker_settings(path)
    assert "with_reid: True" in capsys.readouterr().err


def test_file_in_the_current_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("oks.yaml").write_text("tracker_type: oks\nnew_track_thresh: 0.9\n")
    assert read_tracker_settings("oks.yaml").new_track_thresh == 0.9
    assert read_tracker_settings("oks").new_track_thresh == 0.25


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("track_hihg_thresh: 0.3", "Did you mean 'track_high_thresh'"),
        ("track_buffer: long", "not a number"),
        ("track_buffer: .nan", "not a number"),
        ("match_thresh: 1.2", "from 0 to 1"),
        ("fuse_score: 3", "True or False"),
        ("max_instances: 0", "1 or larger"),
        ("delta_t: 2.5", "not an integer"),
        ("gmc_method: orb", "none, sparseOptFlow"),
        ("track_low_thresh: 0.7", "above track_high_thresh"),
        ("tracker_type: bytetrak", "Did you mean 'bytetrack'"),
        ("tracker_type:", "tracker_type: None"),
    ],
)
def test_wrong_files(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "my.yaml"
    text = line if line.startswith("tracker_type") else f"tracker_type: oks\n{line}"
    path.write_text(f"{text}\n")
    with pytest.raises(UsageError) as error:
        read_tracker_settings(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bytetrak", "Did you mean 'bytetrack.yaml'"),
        ("tracktrack.yaml", "bytetrack.yaml, ocsort.yaml, oks.yaml"),
        ("deepocsort", "Did you mean 'ocsort.yaml'"),
    ],
)
def test_unknown_trackers(name: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        make_tracker(name)
    assert message in str(error.value)


def test_missing_file() -> None:
    with pytest.raises(NotFoundError, match=r"trackers/mine\.yaml does not exist"):
        make_tracker("trackers/mine.yaml")


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    from yolopose.track.association import linear_sum_assignment

    linear_sum_assignment.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    with pytest.raises(DependencyError, match=r"yolopose\[track\]"):
        make_tracker("oks")
    monkeypatch.setitem(__import__("sys").modules, "trackers", None)
    with pytest.raises(DependencyError, match="pip install trackers"):
        make_tracker("trackers:bytetrack")
    with pytest.raises(UsageError, match="max_instances is not possible"):
        make_tracker("trackers:bytetrack", max_instances=2)
