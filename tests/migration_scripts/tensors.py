"""Tensors in, tensors out."""

import torch
from ultralytics import YOLO

device = "cuda" if torch.cuda.is_available() else "cpu"
model = YOLO("yolo11n-pose.pt").to(device)
print("running on", model.device, model.device.type)
batch = torch.rand(2, 3, 320, 320)
results = model(batch, imgsz=320, verbose=False)
assert len(results) == 2
result = model("bus.jpg", imgsz=320, verbose=False)[0]
points = result.keypoints.data
visible = points[..., 2] > 0.5
center = torch.where(visible[..., None], points[..., :2], torch.zeros_like(points[..., :2])).sum(1) / visible.sum(
    1, keepdim=True
).clamp(min=1)
assert center.shape == (len(result), 2)
assert sum(p.numel() for p in model.parameters()) > 1_000_000
