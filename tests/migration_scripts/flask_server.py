"""A web service that answers images with keypoints."""

import io

import numpy as np
from flask import Flask, jsonify, request
from PIL import Image
from ultralytics import YOLO

app = Flask(__name__)
model = YOLO("yolo11n-pose.pt")


@app.route("/predict", methods=["POST"])
def predict():
    image = Image.open(io.BytesIO(request.files["image"].read())).convert("RGB")
    result = model(image, imgsz=320, verbose=False)[0]
    persons = [
        {"box": box.tolist(), "conf": float(conf), "keypoints": keypoints.tolist()}
        for box, conf, keypoints in zip(result.boxes.xyxy, result.boxes.conf, result.keypoints.xy)
    ]
    return jsonify({"count": len(persons), "persons": persons})


client = app.test_client()
with open("bus.jpg", "rb") as file:
    answer = client.post("/predict", data={"image": (file, "bus.jpg")}).get_json()
assert answer["count"] >= 3
assert np.array(answer["persons"][0]["keypoints"]).shape == (17, 2)
