"""Python backend of Triton: image files in, poses out; calls the network of the same repository.

Written by `yolo triton`. Its environment needs yolopose: pip install "yolopose[serve]".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]  # part of Triton

from yolopose.results import HostArray
from yolopose.runtime import Batch, Candidates, from_end2end, from_raw
from yolopose.schema import ModelMetadata
from yolopose.serve.errors import RequestError
from yolopose.serve.images import ImageLimits
from yolopose.serve.models import LoadedModel, PredictParams
from yolopose.serve.protocol_v2 import output_arrays

MAX_PIXELS = 50_000_000
PARAMETERS = {"conf": float, "iou": float, "max_det": int}  # parameters of a request


class TritonNetwork:
    """The network as an engine of yolopose: each call is an inference request to Triton."""

    device = "triton"

    def __init__(self, name: str, batch: int, metadata: ModelMetadata) -> None:
        self.name = name
        self.batch = batch
        self.metadata = metadata

    def infer(
        self,
        batch: Batch,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        """Let Triton compute a batch; see `yolopose.runtime.Runtime.infer`."""
        size = self.batch or self.metadata.batch
        parts = [self._run(batch[start : start + size]) for start in range(0, len(batch), size)]
        raw = np.concatenate(parts)
        keypoints, uncertainty = self.metadata.spec.keypoints, self.metadata.uncertainty
        states = keypoints.visibility
        if self.metadata.end2end:
            return from_end2end(
                raw, keypoints.shape, conf=conf, classes=classes, uncertainty=uncertainty, states=states
            )
        return from_raw(
            raw,
            keypoints.shape,
            conf=conf,
            max_nms=max_nms,
            classes=classes,
            multi_label=multi_label,
            uncertainty=uncertainty,
            states=states,
        )

    def _run(self, batch: Batch) -> Any:
        count = len(batch)
        if not self.batch and count < self.metadata.batch:  # a file of a fixed batch
            batch = np.concatenate((batch, np.zeros((self.metadata.batch - count, *batch.shape[1:]), batch.dtype)))
        request = pb_utils.InferenceRequest(
            model_name=self.name,
            requested_output_names=["output0"],
            inputs=[pb_utils.Tensor("images", batch.astype(np.float32) / 255)],
        )
        response = request.exec()
        if response.has_error():
            raise RuntimeError(response.error().message())
        return pb_utils.get_output_tensor_by_name(response, "output0").as_numpy()[:count].astype(np.float32)

    def to_array(self, array: Any) -> HostArray:
        """Return a host array."""
        return HostArray(array)


class TritonPythonModel:
    """Interface of the Python backend."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the metadata beside this file."""
        details = json.loads((Path(__file__).parent / "metadata.json").read_text(encoding="utf-8"))
        metadata = ModelMetadata.from_dict(details["metadata"])
        network = TritonNetwork(details["network"], details["batch"], metadata)
        limits = ImageLimits(MAX_PIXELS)
        self.model = LoadedModel(args["model_name"], int(args["model_version"]), "", network, metadata.imgsz, limits)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests; each has an input `image` with one or several image files."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            images = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel().tolist()
            results = self.model.predict(images, self._params(request))
        except (RequestError, ValueError) as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        tensors = []
        for name, array in output_arrays(self.model, results).items():
            values = np.array(array, dtype=np.object_) if isinstance(array, list) else array
            tensors.append(pb_utils.Tensor(name, values))
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _params(self, request: Any) -> PredictParams:
        given = json.loads(request.parameters() or "{}")
        values: dict[str, Any] = {"conf": 0.25, "iou": 0.7, "max_det": 300}
        values |= {name: kind(given[name]) for name, kind in PARAMETERS.items() if name in given}
        return PredictParams(imgsz=self.model.resolve_imgsz(None), **values)
