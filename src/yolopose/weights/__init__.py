"""Checkpoints: our format, and restricted reading of foreign ones."""

# imports torch with the OpenMP settings of nn/openmp.py, so it comes first
import yolopose.nn  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split
from yolopose.weights.checkpoint import Checkpoint
from yolopose.weights.files import read_checkpoint, write_checkpoint
from yolopose.weights.network import TransferReport, load_matching, load_network, make_checkpoint

__all__ = [
    "Checkpoint",
    "TransferReport",
    "load_matching",
    "load_network",
    "make_checkpoint",
    "read_checkpoint",
    "write_checkpoint",
]
