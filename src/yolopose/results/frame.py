"""Where an image stands in a video or live stream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """The place of one frame.

    Attributes:
        number: count from 1 in its video, frames that `vid_stride` leaves out included.
        total: frames that the video says to have; None for a stream, or where that is not known.
        fps: frames a second of the video or stream; 0 where that is not known.
        video: which of the source's videos or streams it belongs to, counted from 0.
        live: whether it comes from a camera or stream.
        at: seconds from the first frame of its camera or stream to this one, by the clock; None for a video.
    """

    number: int
    total: int | None = None
    fps: float = 0.0
    video: int = 0
    live: bool = False
    at: float | None = None

    @property
    def seconds(self) -> float | None:
        """Times since the first frame: of a live one by the clock; None where the rate of a video is not known."""
        if self.live:
            return self.at
        return (self.number - 1) / self.fps if self.fps > 0 else None
