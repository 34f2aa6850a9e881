"""Training samples and batches: augmentation, rendering and worker processes."""

from yolopose.train.feed.batch import TrainBatch
from yolopose.train.feed.loader import TrainBatches
from yolopose.train.feed.mixed import MixedBatches

__all__ = ["MixedBatches", "TrainBatch", "TrainBatches"]
