"""Follow persons and draw their paths."""

from collections import defaultdict

import cv2
import numpy as np
from ultralytics import YOLO

model = YOLO("yolo11n-pose.pt")
cap = cv2.VideoCapture("walk.avi")
track_history = defaultdict(list)
while cap.isOpened():
    success, frame = cap.read()
    if not success:
        break
    result = model.track(frame, persist=True, tracker="bytetrack.yaml", imgsz=320, verbose=False)[0]
    if result.boxes and result.boxes.is_track:
        boxes = result.boxes.xywh.cpu()
        track_ids = result.boxes.id.int().cpu().tolist()
        frame = result.plot()
        for box, track_id in zip(boxes, track_ids):
            x, y, w, h = box
            track = track_history[track_id]
            track.append((float(x), float(y)))
            points = np.hstack(track).astype(np.int32).reshape((-1, 1, 2))
            cv2.polylines(frame, [points], isClosed=False, color=(230, 230, 230), thickness=4)
cap.release()
assert max(len(track) for track in track_history.values()) >= 4
