"""Cells of a notebook."""

# %%
from PIL import Image
from ultralytics import YOLO

# %%
model = YOLO("yolo11n-pose.pt")
results = model("bus.jpg", imgsz=320)

# %%
for i, r in enumerate(results):
    im_bgr = r.plot()
    im_rgb = Image.fromarray(im_bgr[..., ::-1])
    r.save(filename=f"results{i}.jpg")

# %%
model.info()
r.keypoints.xyn[0], r.boxes.xywhn[0], r.names
assert im_rgb.size[::-1] == r.orig_shape
