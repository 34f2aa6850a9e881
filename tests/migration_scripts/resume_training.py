"""Interrupt a training and resume it."""

from ultralytics import YOLO

model = YOLO("yolo11n-pose.yaml")


def stop(trainer):
    if trainer.epoch == 1:
        raise RuntimeError("power cut")


model.add_callback("on_train_epoch_start", stop)
options = {"imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "plots": False, "project": "cut", "name": "run"}
try:
    model.train(data="data.yaml", epochs=3, **options)
except RuntimeError as error:
    print(error)
model = YOLO(model.trainer.last)
model.train(resume=True)
assert len(open(model.trainer.csv).readlines()) == 4
