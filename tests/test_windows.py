"""Windows on a virtual display, in an environment made by the documented install for desktops."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose import YOLO

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb (a virtual display) is not installed"),
]
ROOT = Path(__file__).parents[1]
PRINT_SCREEN = """
    import numpy as np

    def magenta():
        '''Return how many pixels of the screen have the color of the drawn frame.'''
        raw = open("Xvfb_screen0", "rb").read()
        header = [int.from_bytes(raw[i : i + 4], "big") for i in range(0, 100, 4)]
        pixels = np.frombuffer(raw[header[0] + 12 * header[19] :], np.uint8)[: header[5] * header[12]]
        pixels = pixels.reshape(header[5], -1, 4)[..., :3].astype(int)
        return int((abs(pixels - (255, 0, 255)).max(-1) < 12).sum())
"""


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with `yolopose[gui]`."""
    folder = tmp_path_factory.mktemp("desktop")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{ROOT}[gui]"], check=True)
    return python


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment variables of a virtual display whose content is in `Xvfb_screen0`."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "900x700x24", "-fbdir", str(tmp_path)]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        with os.fdopen(read) as stream:
            number = stream.readline().strip()
        try:
            yield {**os.environ, "DISPLAY": f":{number}"}
        finally:
            server.terminate()


@pytest.fixture
def network(shared: Path, tmp_path: Path) -> str:
    shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", tmp_path / "n.pt")
    return YOLO(tmp_path / "n.pt").export(format="onnx", imgsz=320, verbose=False)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    writer = cv2.VideoWriter(str(tmp_path / "camera.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(8):
        writer.write(np.full((240, 320, 3), (255, 0, 255), np.uint8))
    writer.release()
    return tmp_path / "camera.avi"


def run(python: Path, code: str, folder: Path, env: dict[str, str]) -> str:
    script = textwrap.dedent(PRINT_SCREEN) + textwrap.dedent(code)
    done = subprocess.run(
        [python, "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_webcam_loop(desktop: Path, screen: dict[str, str], network: str, video: Path) -> None:
    """The loop of most tutorials: read, predict, plot, imshow, waitKey."""
    code = """
        import cv2
        from yolopose import YOLO

        model = YOLO("n.onnx")
        cap = cv2.VideoCapture("camera.avi")
        frames = 0
        while cap.isOpened():
            success, frame = cap.read()
            if not success:
                break
            results = model(frame, verbose=False)
            cv2.imshow("poses", results[0].plot())
            frames += 1
            if cv2.waitKey(100) & 0xFF == ord("q"):
                break
        print(frames, magenta())
        cap.release()
        cv2.destroyAllWindows()
    """
    frames, pixels = run(desktop, code, video.parent, screen).split()[-2:]
    assert int(frames) == 8
    assert int(pixels) > 40_000


def test_show(desktop: Path, screen: dict[str, str], network: str, video: Path) -> None:
    code = """
        import cv2
        from yolopose import YOLO

        model = YOLO("n.onnx")
        for result in model.predict("camera.avi", show=True, stream=True, verbose=False):
            cv2.waitKey(100)
            pixels = magenta()
        print(pixels)
    """
    assert int(run(desktop, code, video.parent, screen).split()[-1]) > 40_000
