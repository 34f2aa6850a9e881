"""One thread and one model per video."""

import threading

from ultralytics import YOLO

counts = {}


def run(name, source):
    model = YOLO("yolo11n-pose.pt")
    counts[name] = sum(len(result.boxes) for result in model.track(source, stream=True, imgsz=320, verbose=False))


threads = [threading.Thread(target=run, args=(i, "walk.avi"), daemon=True) for i in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert counts[0] == counts[1] > 0
