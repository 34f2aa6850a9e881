"""Train with callbacks that log losses and stop early."""

from ultralytics import YOLO

log = []


def on_train_epoch_end(trainer):
    log.append((trainer.epoch + 1, float(trainer.loss), trainer.optimizer.param_groups[0]["lr"]))


def on_fit_epoch_end(trainer):
    print(f"epoch {trainer.epoch + 1}/{trainer.epochs} mAP {trainer.metrics.get('metrics/mAP50-95(P)', 0):.3f}")


def on_train_end(trainer):
    print("best weights:", trainer.best, "saved in", trainer.save_dir)


model = YOLO("yolo11n-pose.yaml")
model.add_callback("on_train_epoch_end", on_train_epoch_end)
model.add_callback("on_fit_epoch_end", on_fit_epoch_end)
model.add_callback("on_train_end", on_train_end)
results = model.train(data="data.yaml", epochs=2, imgsz=64, batch=4, workers=0, device="cpu", plots=False, name="cb")
assert [epoch for epoch, _, _ in log] == [1, 2]
assert all(loss > 0 and rate >= 0 for _, loss, rate in log)
print(results.results_dict["metrics/mAP50(P)"])
