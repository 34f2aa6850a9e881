"""Track files: JSON Lines, CSV, CSV of DeepLabCut, MOTChallenge."""

from __future__ import annotations

from instrumented import instrument

with instrument():
    from harness import Target, main, work_folder

    from yolopose.data.tracks import read_tracks

FOLDER = work_folder()
NAMES = ["a.jsonl", "a.csv", "a.txt"]


def run(data: bytes) -> None:
    """Read one case."""
    path = FOLDER / NAMES[data[0] % len(NAMES) if data else 0]
    path.write_bytes(data[1:])
    for tracks in read_tracks(path):
        assert len(tracks.frames) == len(tracks.ids) == len(tracks.boxes) == len(tracks.keypoints)


TARGET = Target(
    "tracks",
    run,
    [b'"track_id"', b'"keypoints"', b"scorer,", b"bodyparts,", b"coords,", b"frame,", b'"video"', b"\n0,"],
)

if __name__ == "__main__":
    main(TARGET)
