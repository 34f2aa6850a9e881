"""Poses over HTTP with FastAPI.

pip install fastapi uvicorn
YOLO_MODEL=yolo11n-pose.onnx uvicorn --app-dir examples http_api:app
curl --data-binary @bus.jpg http://127.0.0.1:8000/poses?conf=0.4
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Query

from yolopose import YOLO
from yolopose.base.errors import SourceError

MAX_BYTES = 20_000_000
models: dict[str, YOLO] = {}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Load the network once, before the first request."""
    models["pose"] = YOLO(os.environ.get("YOLO_MODEL", "yolo11n-pose.pt"))
    yield
    models.clear()


app = FastAPI(title="Poses", lifespan=lifespan)


@app.post("/poses")
def poses(
    image: Annotated[bytes, Body(media_type="application/octet-stream")],
    conf: Annotated[float, Query(ge=0, le=1)] = 0.25,
) -> dict[str, Any]:
    """Return the instances of an encoded image (JPEG, PNG, …): boxes, keypoints by name, scores."""
    if len(image) > MAX_BYTES:
        raise HTTPException(413, f"The image has more than {MAX_BYTES} bytes.")
    try:
        result = models["pose"](image, conf=conf, verbose=False)[0]
    except SourceError as error:
        raise HTTPException(422, str(error)) from None
    height, width = result.orig_shape
    return {"height": height, "width": width, "instances": result.summary()}


@app.get("/health")
def health() -> dict[str, str]:
    """Return 200 when the network is loaded."""
    return {"status": "ok"}
