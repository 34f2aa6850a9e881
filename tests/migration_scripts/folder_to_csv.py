"""Write the keypoints of all images of a folder to a CSV file."""

import csv
from pathlib import Path

from ultralytics import YOLO

model = YOLO("yolo11n-pose.pt")
with open("keypoints.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["image", "person", "box_conf"] + [f"{axis}{i}" for i in range(17) for axis in "xyc"])
    for result in model.predict(source="images", stream=True, conf=0.25, imgsz=320):
        if result.keypoints is None or len(result.keypoints) == 0:
            continue
        for i, (keypoints, conf) in enumerate(zip(result.keypoints.data, result.boxes.conf)):
            row = [Path(result.path).name, i, round(float(conf), 3)]
            writer.writerow(row + [round(v, 2) for v in keypoints.cpu().numpy().flatten().tolist()])
assert len(open("keypoints.csv").readlines()) > 4
