"""Training by several processes, one for each device: how they are started, what they share, how they end together."""

from yolopose.train.ranks.crew import Crew
from yolopose.train.ranks.pulse import RankLost
from yolopose.train.ranks.team import Team

__all__ = ["Crew", "RankLost", "Team"]
