"""Export to ONNX, open the file again, compare accuracy and speed."""

import time

from ultralytics import YOLO

model = YOLO("yolo11n-pose.pt")
path = model.export(format="onnx", imgsz=320, simplify=True, opset=17)
exported = YOLO(path, task="pose")
for name, network in {"torch": model, "onnx": exported}.items():
    network.predict("bus.jpg", imgsz=320, verbose=False)
    start = time.perf_counter()
    for _ in range(3):
        results = network.predict("bus.jpg", imgsz=320, verbose=False)
    milliseconds = (time.perf_counter() - start) / 3 * 1000
    print(f"{name}: {len(results[0].boxes)} persons, {milliseconds:.0f} ms, speed {results[0].speed}")
metrics = exported.val(data="data.yaml", imgsz=320, plots=False, verbose=False)
assert 0 <= metrics.pose.map50 <= 1
assert path.endswith(".onnx")
