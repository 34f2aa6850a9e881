"""The engine protocol, NMS, test-time augmentation, replicas."""

from yolopose.runtime.protocol import (
    Batch,
    Candidates,
    Replicated,
    Runtime,
    from_end2end,
    from_raw,
    get_replicas,
    split_keypoints,
)

__all__ = [
    "Batch",
    "Candidates",
    "Replicated",
    "Runtime",
    "from_end2end",
    "from_raw",
    "get_replicas",
    "split_keypoints",
]
