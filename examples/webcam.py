"""Poses of a webcam in a window, with track ids and frames per second.

    python examples/webcam.py                         # the first camera; Escape or q closes the window
    python examples/webcam.py walk.mp4 --output poses.mp4
    python examples/webcam.py rtsp://camera/stream --model best.onnx --imgsz 320

The window needs the extra `gui` (opencv-python) instead of `headless`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2

from yolopose import YOLO
from yolopose.base.errors import YoloposeError

ESCAPE = 27


def has_windows() -> bool:
    """Return whether this OpenCV can open a window."""
    return "GUI:                           NONE" not in cv2.getBuildInformation()


def run(source: str, model: YOLO, imgsz: int, output: Path | None) -> int:
    """Show or write each frame with its poses; return the number of frames."""
    writer: cv2.VideoWriter | None = None
    count = 0
    rate = 0.0
    last = time.perf_counter()
    try:
        for result in model.track(source, stream=True, imgsz=imgsz, smooth=True, verbose=False):
            image = result.plot()
            now = time.perf_counter()
            rate = 0.9 * rate + 0.1 / max(now - last, 1e-6) if count else 0.0
            last = now
            count += 1
            cv2.putText(image, f"{rate:.0f} frames/s", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
            if output:
                if writer is None:
                    fps = result.frame.fps if result.frame and result.frame.fps else 25
                    size = (image.shape[1], image.shape[0])
                    writer = cv2.VideoWriter(str(output), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
                writer.write(image)
            else:
                cv2.imshow("yolopose", image)
                if cv2.waitKey(1) & 0xFF in (ESCAPE, ord("q")):
                    break
    finally:
        if writer is not None:
            writer.release()
        elif not output and has_windows():
            cv2.destroyAllWindows()
    return count


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="0", help="camera number, video or stream")
    parser.add_argument("--model", default="yolo11n-pose.pt", help="weights or exported file")
    parser.add_argument("--imgsz", type=int, default=640, help="side of the network input, pixels")
    parser.add_argument("--output", type=Path, help="write a video instead of opening a window")
    arguments = parser.parse_args()
    if not arguments.output and not has_windows():
        print(
            'This OpenCV has no windows: pip uninstall opencv-python-headless && pip install "yolopose[gui]", or write '
            "a video with --output poses.mp4.",
            file=sys.stderr,
        )
        return 1
    try:
        count = run(arguments.source, YOLO(arguments.model), arguments.imgsz, arguments.output)
    except YoloposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{count} frames{f', written to {arguments.output}' if arguments.output else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
