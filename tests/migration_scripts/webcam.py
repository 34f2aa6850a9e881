"""Read frames from a camera, draw poses and frame rate, record a video."""

import time

import cv2
from ultralytics import YOLO

model = YOLO("yolo11n-pose.pt")
cap = cv2.VideoCapture("walk.avi")  # 0 for a webcam
writer = None
count = 0
while cap.isOpened():
    success, frame = cap.read()
    if not success:
        break
    start = time.time()
    results = model(frame, conf=0.5, imgsz=320, verbose=False)
    annotated = results[0].plot()
    cv2.putText(
        annotated, f"FPS: {1 / (time.time() - start):.1f}", (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 255, 0), 2
    )
    if writer is None:
        height, width = annotated.shape[:2]
        writer = cv2.VideoWriter("out.avi", cv2.VideoWriter_fourcc(*"MJPG"), 25, (width, height))
    writer.write(annotated)
    count += 1
cap.release()
writer.release()
assert count == 6
