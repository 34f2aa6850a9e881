"""Make the images of the first page: `python tools/make_images.py --weights yolo11n-pose.pt --mouse best.pt`.

docs/assets/tracking.gif    poses and track ids of drawn figures, by the weights of --weights
docs/assets/mouse.png       keypoints of a network trained on the mouse in front of a mirror (--mouse), on validation
                            frames of that data set (--frames): lightning-pose example data, MIT License

The weights are not part of the repository: the first are public, the second are trained with

    yolo pose train data=mirror-mouse.yaml model=yolo11n-pose.pt epochs=40 batch=4 fliplr=0 imgsz=416

of which docs/assets/mouse.png has the best network of the first 17 epochs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolopose import YOLO
from yolopose.data.figures.sequences import FigureSequence

ASSETS = Path(__file__).parents[1] / "docs" / "assets"
Frame = npt.NDArray[np.uint8]


def without_noise(frames: list[Frame], tolerance: int = 30) -> list[Frame]:
    """Replace pixels that differ little from their median over time by it: a static background compresses well."""
    background = np.median(np.stack(frames), axis=0).astype(np.uint8)
    smooth = cv2.bilateralFilter(background, 5, 20, 5)
    cleaned = []
    for frame in frames:
        is_static = cv2.absdiff(frame, background).max(axis=2) < tolerance
        cleaned.append(np.where(is_static[..., None], smooth, frame))
    return cleaned


def tracked_frames(weights: str, name: str, seed: int, frames: range, crop: slice) -> list[Frame]:
    """Return frames of a drawn sequence with poses and track ids, (height, width, 3) BGR."""
    model = YOLO(weights)
    sequence = FigureSequence(name, seed)
    rendered = [sequence.render(number) for number in frames]
    drawn = []
    for image, cleaned in zip(rendered, without_noise(rendered), strict=True):
        result = model.track(image, persist=True, imgsz=640, verbose=False)[0]
        canvas = cv2.resize(cleaned, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        style = {"line_width": 2, "color_mode": "instance", "conf": False, "kpt_radius": 7}
        plotted = result.plot(img=canvas, **style)[crop]
        drawn.append(cv2.resize(plotted, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return drawn


def write_gif(path: Path, frames: list[Frame], seconds: float, colors: int) -> None:
    """Write an animation with one palette for all frames, so that unchanged pixels stay unchanged."""
    from PIL import Image

    images = [Image.fromarray(frame[..., ::-1]) for frame in frames]
    palette = Image.fromarray(np.concatenate([frame[..., ::-1] for frame in frames[:: max(1, len(frames) // 6)]]))
    palette = palette.quantize(colors, dither=Image.Dither.NONE)
    indexed = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    indexed[0].save(
        path, save_all=True, append_images=indexed[1:], duration=round(seconds * 1000), loop=0, optimize=True
    )


def write_mice(path: Path, weights: str, folder: Path, height: int) -> None:
    """Write validation frames with predicted keypoints side by side."""
    model = YOLO(weights)
    files = sorted(folder.glob("*.*"))
    chosen = [files[round(share * (len(files) - 1))] for share in (0.1, 0.5, 0.9)]
    tiles = []
    for result in model(chosen, imgsz=416, conf=0.1, max_det=1, verbose=False):
        canvas = cv2.resize(result.orig_img, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        image = result.plot(img=canvas, boxes=False, kpt_radius=12)
        width = round(image.shape[1] * height / image.shape[0])
        tiles.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    gap = np.full((height, 6, 3), 255, np.uint8)
    row = np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)
    cv2.imwrite(str(path), row, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="weights for people; without them the animation is not made")
    parser.add_argument("--mouse", help="weights for the mouse; without them the still is not made")
    parser.add_argument("--frames", type=Path, help="folder of validation frames of the mouse")
    arguments = parser.parse_args()
    ASSETS.mkdir(exist_ok=True)
    if arguments.weights:
        frames = tracked_frames(arguments.weights, "dance-4", 1, range(34, 122, 4), slice(120, 560))
        write_gif(ASSETS / "tracking.gif", frames, 0.13, 40)
    if arguments.mouse and arguments.frames:
        write_mice(ASSETS / "mouse.png", arguments.mouse, arguments.frames, 220)
    for path in sorted(ASSETS.iterdir()):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
