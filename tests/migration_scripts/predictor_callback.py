"""Change results in a callback, and annotate a video."""

from ultralytics import YOLO


def on_predict_batch_end(predictor):
    for result in predictor.results:
        frames.append((result.path, len(result)))


frames = []
model = YOLO("yolo11n-pose.pt")
model.add_callback("on_predict_batch_end", on_predict_batch_end)
for result in model.predict(
    "walk.avi", stream=True, save=True, imgsz=320, vid_stride=2, verbose=False, project="video", name="cb"
):
    speed = result.speed
assert len(frames) == 3
assert set(speed) >= {"preprocess", "inference", "postprocess"}
