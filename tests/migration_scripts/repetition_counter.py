"""Count repetitions from the angle of an elbow."""

import numpy as np
from ultralytics import YOLO

model = YOLO("yolo11n-pose.pt")


def angle(a, b, c):
    ba, bc = a - b, c - b
    cosine = np.dot(ba, bc) / (np.linalg.norm(ba) * np.linalg.norm(bc) + 1e-6)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


stage, reps, angles = None, 0, []
for result in model("walk.avi", stream=True, imgsz=320, verbose=False):
    if not len(result.boxes):
        continue
    person = int(result.boxes.conf.argmax())
    points = result.keypoints.xy[person].cpu().numpy()
    conf = result.keypoints.conf[person].cpu().numpy()
    if conf[[5, 7, 9]].min() < 0.1:
        continue
    angles.append(angle(points[5], points[7], points[9]))
    if angles[-1] > 160:
        stage = "down"
    if angles[-1] < 30 and stage == "down":
        stage, reps = "up", reps + 1
assert all(0 <= value <= 180 for value in angles)
print(reps, "repetitions in", len(angles), "frames")
