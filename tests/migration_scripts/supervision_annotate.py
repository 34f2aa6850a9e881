"""Draw with supervision."""

import cv2
import supervision as sv
from ultralytics import YOLO

model = YOLO("yolo11n-pose.pt")
image = cv2.imread("bus.jpg")
result = model(image, imgsz=320, verbose=False)[0]
keypoints = sv.KeyPoints.from_ultralytics(result)
detections = sv.Detections.from_ultralytics(result)
scene = sv.EdgeAnnotator(color=sv.Color.GREEN, thickness=2).annotate(image.copy(), keypoints)
scene = sv.VertexAnnotator(color=sv.Color.RED, radius=3).annotate(scene, keypoints)
scene = sv.BoxAnnotator().annotate(scene, detections)
cv2.imwrite("supervision.jpg", scene)
assert keypoints.xy.shape[1:] == (17, 2)
assert (scene != image).any()
