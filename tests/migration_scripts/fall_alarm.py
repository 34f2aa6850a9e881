"""Report persons that are wider than high, and draw the others."""

from ultralytics import YOLO

model = YOLO("yolo11n-pose.pt")
results = model.predict(["bus.jpg", "images"][0], conf=0.3, classes=[0], max_det=10, imgsz=320, save=True, name="fall")
for r in results:
    for box in r.boxes:
        x1, y1, x2, y2 = box.xyxy[0].tolist()
        label = model.names[int(box.cls)]
        state = "lying" if (x2 - x1) > 1.2 * (y2 - y1) else "upright"
        print(f"{label} {float(box.conf):.2f}: {state}")
assert len(results[0].boxes) >= 3
assert results[0].save_dir
