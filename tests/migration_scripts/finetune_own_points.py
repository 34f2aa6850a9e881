"""Fine-tune on a data set with other keypoints, look at the metrics, use the result."""

from ultralytics import YOLO

model = YOLO("yolo11n-pose.pt")
model.train(
    data="points.yaml",
    epochs=1,
    imgsz=64,
    batch=4,
    workers=0,
    device="cpu",
    freeze=10,
    optimizer="AdamW",
    lr0=0.001,
    patience=20,
    cos_lr=True,
    mosaic=0.5,
    degrees=10,
    fliplr=0.0,
    plots=False,
    project="own",
    name="mouse",
)
metrics = model.val()
print(metrics.box.map, metrics.pose.map, metrics.pose.map50, metrics.pose.map75, metrics.pose.maps)
print(metrics.results_dict)
best = YOLO(model.trainer.best)
result = best("bus.jpg", imgsz=64, conf=0.0, max_det=2)[0]
assert result.keypoints.shape[1:] == (4, 3)
