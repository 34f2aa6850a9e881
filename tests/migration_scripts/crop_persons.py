"""Cut persons out of images."""

import os

import cv2
from ultralytics import YOLO

model = YOLO("yolo11n-pose.pt")
os.makedirs("persons", exist_ok=True)
results = model("bus.jpg", imgsz=320)
image = results[0].orig_img
for i, box in enumerate(results[0].boxes.xyxy.cpu().numpy().astype(int)):
    x1, y1, x2, y2 = box
    cv2.imwrite(f"persons/{i}.jpg", image[y1:y2, x1:x2])
results[0].save_crop("crops", "person")
assert len(os.listdir("persons")) == len(results[0].boxes)
