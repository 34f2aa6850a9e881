"""Training by several processes, one for each device: how they are started, what they share, how they end together."""

from yolopose.train.distributed.heartbeat import RankLost
from yolopose.train.distributed.launcher import Launcher
from yolopose.train.distributed.process_group import ProcessGroup

__all__ = ["Launcher", "RankLost", "ProcessGroup"]
