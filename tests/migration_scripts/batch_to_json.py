"""Predict a list of images in batches, write labels and JSON."""

import glob
import json

from ultralytics import YOLO

model = YOLO("yolo11n-pose.pt")
files = sorted(glob.glob("images/*.jpg"))
everything = {}
for start in range(0, len(files), 2):
    results = model(files[start : start + 2], imgsz=320, verbose=False)
    for file, result in zip(files[start : start + 2], results):
        everything[file] = json.loads(result.to_json())
        result.save_txt(f"labels/{start}.txt", save_conf=True)
json.dump(everything, open("all.json", "w"))
assert len(everything) == len(files)
first = next(people[0] for people in everything.values() if people)
assert {"name", "class", "confidence", "box", "keypoints"} <= set(first)
assert len(first["keypoints"]["x"]) == 17
