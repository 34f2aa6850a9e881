"""K-fold cross-validation by hand: text lists and a data YAML for each fold."""

import random
from pathlib import Path

import yaml
from ultralytics import YOLO

base = yaml.safe_load(Path("data.yaml").read_text())
images = sorted(str(path.resolve()) for path in Path(base["path"]).glob("images/**/*.jpg"))
random.seed(0)
random.shuffle(images)
k = 2
scores = []
for fold in range(k):
    folder = Path(f"fold{fold}")
    folder.mkdir(exist_ok=True)
    (folder / "val.txt").write_text("\n".join(images[fold::k]))
    (folder / "train.txt").write_text("\n".join(image for i, image in enumerate(images) if i % k != fold))
    config = {**base, "path": str(folder.resolve()), "train": "train.txt", "val": "val.txt"}
    (folder / "data.yaml").write_text(yaml.safe_dump(config))
    model = YOLO("yolo11n-pose.yaml")
    metrics = model.train(
        data=str(folder / "data.yaml"),
        epochs=1,
        imgsz=64,
        batch=4,
        workers=0,
        device="cpu",
        plots=False,
        project="kfold",
        name=f"fold{fold}",
    )
    scores.append(metrics.pose.map50)
print("mean mAP50:", sum(scores) / k)
assert len(scores) == 2
