"""The modes of track files: what `yolo evaluate` and `yolo smooth` do with their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from yolopose.base.errors import UsageError
from yolopose.config import CheckedOptions, EvaluateOptions, SmoothOptions, make_options

if TYPE_CHECKING:
    from yolopose.evaluate.tracking import TrackingMetrics
    from yolopose.track.smoothing import SmoothingMethod

_TITLES = {"box": "Boxes (IoU)", "oks": "Poses (OKS)"}


def evaluate(given: CheckedOptions) -> None:
    """Print the scores of tracks, and write them as JSON if requested."""
    from yolopose.base.files import write_text
    from yolopose.data.tracks import read_tracks
    from yolopose.evaluate.tracking import evaluate_tracks
    from yolopose.results.tables import to_json

    options = cast(EvaluateOptions, make_options("evaluate", given))
    if options.tracks is None or options.truth is None:
        raise UsageError(
            "Give the tracks and the ground truth, such as "
            "yolo evaluate tracks=runs/pose/track/predictions.jsonl truth=gt.jsonl."
        )
    tracks, gt = read_tracks(options.tracks), read_tracks(options.truth)
    has_poses = all(video.num_keypoints for video in gt) and all(
        video.num_keypoints or not len(video) for video in tracks
    )
    kinds = [options.similarity] if options.similarity else ["box", "oks"] if has_poses else ["box"]
    scores: dict[str, TrackingMetrics] = {}
    for kind in kinds:
        scores[kind] = evaluate_tracks(
            tracks,
            gt,
            kind,
            threshold=options.threshold,
            sigmas=_sigmas(options.data),
            stride=options.vid_stride,
        )
        print(f"{_TITLES[kind]}, threshold {options.threshold:g}, shares in percent:\n{scores[kind].table()}")
    if options.output is not None:
        write_text(options.output, to_json({kind: metrics.to_dict() for kind, metrics in scores.items()}) + "\n")
        print(f"Wrote {options.output}")


def _sigmas(data: str | None) -> Any:
    """Return the (K,) σ of a data YAML, or None without one."""
    if data is None:
        return None
    from yolopose.base.yamlfile import read_yaml
    from yolopose.schema import KeypointSchema

    return KeypointSchema.from_dict(read_yaml(data, "data YAML")).oks_sigmas


def smooth(given: CheckedOptions) -> None:
    """Write a smoothed track file."""
    from yolopose.track.smoothing import smooth_file

    options = cast(SmoothOptions, make_options("smooth", given))
    if options.source is None:
        raise UsageError("Give a track file: yolo smooth source=runs/pose/track/predictions.jsonl.")
    target = smooth_file(options.source, options.output, _method(options), options.format)
    print(f"Wrote {target}")


def _method(options: SmoothOptions) -> SmoothingMethod:
    from yolopose.track.one_euro import OneEuro
    from yolopose.track.smoothing import RTS, SavitzkyGolay

    if options.method == "rts":
        return RTS(max_gap=options.max_gap, min_conf=options.min_conf, strength=options.strength)
    if options.method == "savgol":
        return SavitzkyGolay(
            window=options.window, order=options.order, max_gap=options.max_gap, min_conf=options.min_conf
        )
    return OneEuro(min_cutoff=options.min_cutoff, beta=options.beta, min_conf=options.min_conf)
