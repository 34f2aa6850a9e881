"""The server on Ray Serve: `YOLOPOSE_MODEL=/models/yolo11n-pose.onnx serve run deploy.ray_serve:app`.

Needs `pip install "ray[serve]" "yolopose[serve,track]"` on all nodes. Each replica has its own queue and batches; Ray
distributes the requests over the replicas, and starts further ones under load.
"""

from __future__ import annotations

import os
from typing import Any

from ray import serve

CORES = int(os.environ.get("YOLOPOSE_CORES", "2"))


def build() -> Any:
    """Return the application of one replica; called in its process."""
    from yolopose.serve import create_app

    # Ray's proxy is the server that clients reach: protect it, or set YOLOPOSE_API_KEY on all nodes
    return create_app(model=os.environ["YOLOPOSE_MODEL"], insecure=True, verbose=False)


@serve.deployment(
    ray_actor_options={"num_cpus": CORES, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(CORES)}}},
    max_ongoing_requests=64,  # as queue= of the server
    autoscaling_config={"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 16},
)
@serve.ingress(build)
class Poses:
    """The routes of `yolo serve`."""


app = Poses.bind()
