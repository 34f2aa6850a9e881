"""Training samples: augmentation on paper, pixels sampled once, batches made by workers."""

from yolopose.train.feed.batch import TrainBatch
from yolopose.train.feed.batches import TrainBatches, train_batches
from yolopose.train.feed.choose import choose

__all__ = ["TrainBatch", "TrainBatches", "choose", "train_batches"]
