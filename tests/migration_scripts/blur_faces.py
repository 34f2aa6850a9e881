"""Blur the faces that the keypoints show."""

import cv2
import numpy as np
from ultralytics import YOLO

model = YOLO("yolo11n-pose.pt")
image = cv2.imread("bus.jpg")
for result in model(image, imgsz=320, verbose=False):
    for person, box in zip(result.keypoints, result.boxes):
        face = person.xy[0, :5].cpu().numpy()
        face = face[person.conf[0, :5].cpu().numpy() > 0.3]
        if not len(face):
            continue
        radius = int(max(float(box.xywh[0, 2]) / 4, 5))
        x, y = face.mean(0).astype(int)
        y1, x1 = max(y - radius, 0), max(x - radius, 0)
        part = image[y1 : y + radius, x1 : x + radius]
        image[y1 : y + radius, x1 : x + radius] = cv2.blur(part, (15, 15))
cv2.imwrite("blurred.jpg", image)
assert not np.array_equal(image, cv2.imread("bus.jpg"))
