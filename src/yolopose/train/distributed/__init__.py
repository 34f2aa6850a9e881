"""Distributed training: one process per device, started here or by a launcher such as torchrun."""

from yolopose.train.distributed.heartbeat import RankLost
from yolopose.train.distributed.launcher import Launcher
from yolopose.train.distributed.process_group import ProcessGroup

__all__ = ["Launcher", "ProcessGroup", "RankLost"]
