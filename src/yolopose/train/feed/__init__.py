"""Training samples: augmentation on paper, pixels sampled once, batches made by workers."""

from yolopose.train.feed.batch import TrainBatch
from yolopose.train.feed.loader import TrainBatches, train_batches

__all__ = ["TrainBatch", "TrainBatches", "train_batches"]
