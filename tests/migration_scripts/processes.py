"""Predict in a pool of processes."""

import glob
import multiprocessing as mp

from ultralytics import YOLO

model = None


def start():
    global model
    model = YOLO("yolo11n-pose.pt")


def count(path):
    return len(model(path, imgsz=320, verbose=False)[0].boxes)


if __name__ == "__main__":
    with mp.get_context("spawn").Pool(2, initializer=start) as pool:
        counts = pool.map(count, sorted(glob.glob("images/*.jpg")))
    assert sum(counts) > 0
