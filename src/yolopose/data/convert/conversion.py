"""Convert annotations between any two formats, and report what the target format cannot hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yolopose.base.errors import DataError, UsageError
from yolopose.base.files import expand_user
from yolopose.base.log import LOGGER
from yolopose.base.progress import progress
from yolopose.data.convert.output import OutputPlan, split_key
from yolopose.data.convert.protocol import AnnotationFormat, LossCounter, ReadOptions, WriteOptions
from yolopose.data.convert.record import DatasetRecord, ImageRecord, IssueLog
from yolopose.data.convert.registry import detect_format, get_format
from yolopose.data.paths import require_unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionReport:
    """What a conversion wrote, skipped, changed and lost.

    Attributes:
        output: the main file: a data YAML, a JSON file, …
        source_format: name of the format that was read.
        target_format: name of the format that was written.
        images: number of images by split.
        empty: number of images without instances by split, which training reads as background.
        instances: number of instances by split, crowds included.
        crowds: number of crowd instances by split.
        skipped: values that were not converted, each kind with its number, examples and reason.
        changed: values that were converted with a change.
        lost: values that the target format cannot hold: `CVAT cannot hold segmentations: 12 values.`

    Examples:
        >>> from yolopose.data.convert import ConversionReport, convert
        >>> report = convert("annotations/", "my-labels")  # doctest: +SKIP
        >>> from pathlib import Path
        >>> counts = {"train": 2}
        >>> report = ConversionReport(
        ...     output=Path("my-labels/data.yaml"), source_format="cvat", target_format="yolo", images=counts, empty={},
        ...     instances=counts, crowds={}, skipped=["1 polygon: no keypoints"], changed=[], lost=[],
        ... )
        >>> report.instances["train"], len(report.skipped)
        (2, 1)
    """

    output: Path
    source_format: str
    target_format: str
    images: Mapping[str, int]
    empty: Mapping[str, int]
    instances: Mapping[str, int]
    crowds: Mapping[str, int]
    skipped: Sequence[str]
    changed: Sequence[str]
    lost: Sequence[str]

    def __str__(self) -> str:
        lines = [
            f"{split or 'all'}: {count} images"
            + (f" ({self.empty[split]} of them without instances)" if self.empty.get(split) else "")
            + f", {self.instances.get(split, 0)} instances"
            + (f" ({self.crowds[split]} of them crowds)" if self.crowds.get(split) else "")
            for split, count in self.images.items()
        ]
        for title, messages in (("Skipped", self.skipped), ("Changed", self.changed), ("Lost", self.lost)):
            lines += [f"{title}: {message}" for message in messages]
        return "\n".join([*lines, f"Wrote {self.output}"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "output": str(self.output),
            "source_format": self.source_format,
            "target_format": self.target_format,
            "images": dict(self.images),
            "empty": dict(self.empty),
            "instances": dict(self.instances),
            "crowds": dict(self.crowds),
            "skipped": list(self.skipped),
            "changed": list(self.changed),
            "lost": list(self.lost),
        }


def read_annotations(
    source: str | Path, *, source_format: str | None = None, options: ReadOptions | None = None
) -> DatasetRecord:
    """Read annotations of any format.

    Args:
        source: file or folder.
        source_format: name of the format; None detects it.
        options: see `ReadOptions`.

    Raises:
        NotFoundError: the source does not exist.
        DataError: the source is not of the format, or its format is not recognized.
        UsageError: the format is unknown or only written.
    """
    path = expand_user(source)
    require_unpacked(path)
    detected = detect_format(path) if source_format is None else get_format(source_format)
    if detected.read is None:
        raise UsageError(f"{detected.title} is only written, not read.")
    record = detected.read(path, options or ReadOptions())
    record.format = detected.name
    return record


def write_annotations(
    dataset: DatasetRecord,
    output: str | Path,
    *,
    to: str,
    options: WriteOptions | None = None,
    split: str | None = None,
    verbose: bool = True,
) -> ConversionReport:
    """Write a record in any format.

    Args:
        dataset: the annotations.
        output: folder, absent or empty; or the main file, for formats that consist of one.
        to: name of the format.
        options: see `WriteOptions`.
        split: write only the images of this split; None writes all.
        verbose: show a progress bar and log the report.

    Raises:
        UsageError: the format is unknown or only read.
        DataError: two outputs would have the same path; nothing was written.
        OutputError: the output exists or cannot be written.
    """
    target = get_format(to)
    if target.write is None:
        raise UsageError(f"{target.title} is only read, not written.")
    plan = plan_output(expand_user(output), target)
    losses = LossCounter(dataset, target)
    counter = _PassCounter(dataset, losses, split, verbose)
    issues = IssueLog()
    issues.update(dataset.issues)
    watched = replace(dataset, read_images=counter.read_images)
    try:
        main = target.write(watched, plan, options or WriteOptions(), issues)
    except BaseException:
        plan.discard()
        raise
    issues.update(counter.issues)
    report = ConversionReport(
        output=main,
        source_format=dataset.format,
        target_format=target.name,
        images=counter.images,
        empty=counter.empty,
        instances=counter.instances,
        crowds=counter.crowds,
        skipped=[str(issue) for issue in issues.skipped.values()],
        changed=[str(issue) for issue in issues.changed.values()],
        lost=losses.messages,
    )
    if verbose:
        _log(report)
    return report


def convert(
    source: str | Path,
    output: str | Path,
    *,
    to: str,
    source_format: str | None = None,
    images: str | Path | None = None,
    split: str | None = None,
    copy_images: bool | None = None,
    kpt_dims: int | None = None,
    kpt_names: Sequence[str] = (),
    classes: Sequence[str] = (),
    url: str = "",
    verbose: bool = True,
    **values: Any,
) -> ConversionReport:
    """Convert annotations from one format to another.

    Args:
        source: file or folder of the annotations.
        output: folder, absent or empty; or the main file, for formats that consist of one.
        to: name of the target format.
        source_format: name of the source format; None detects it.
        images: folder of the images; None searches beside the source.
        split: convert only this split; also the name of the split of images that the source assigns to none.
        copy_images: whether to copy the images into the output; None does what the format needs.
        kpt_dims: 2 or 3 values for each keypoint, for formats that have both.
        kpt_names: keypoint names, for formats that do not store them.
        classes: class names, for formats that do not store them.
        url: text in front of image names, for tools that load images from a server.
        verbose: show a progress bar and log the report.
        values: options of one format; see its module.

    Returns:
        What was written, skipped, changed and lost.

    Raises:
        NotFoundError: the source does not exist.
        DataError: the source is damaged or not recognized, or two outputs would have the same path.
        UsageError: a format or option does not exist.
        OutputError: the output exists or cannot be written.
    """
    read_options = ReadOptions(
        images=expand_user(images) if images else None,
        split=split,
        classes=tuple(classes),
        kpt_names=tuple(kpt_names),
        values=values,
    )
    write_options = WriteOptions(copy_images=copy_images, kpt_dims=kpt_dims, url=url, values=values)
    dataset = read_annotations(source, source_format=source_format, options=read_options)
    return write_annotations(dataset, output, to=to, options=write_options, split=split, verbose=verbose)


def plan_output(output: Path, target: AnnotationFormat) -> OutputPlan:
    """Return the plan of an output folder, or of a single file if the path has a suffix of the format."""
    if output.suffix.lower() in target.suffixes and not output.is_dir():
        return OutputPlan(output.parent, output.name)
    return OutputPlan(output)


class _PassCounter:
    """Count images and losses in the first complete pass of a writer over the images; later passes are only read."""

    def __init__(self, dataset: DatasetRecord, losses: LossCounter, split: str | None, verbose: bool) -> None:
        self.issues = IssueLog()
        self.images: Counter[str] = Counter()
        self.empty: Counter[str] = Counter()
        self.instances: Counter[str] = Counter()
        self.crowds: Counter[str] = Counter()
        self._read = dataset.read_images
        self._losses = losses
        self._split = split
        self._verbose = verbose
        self._passes = 0

    def read_images(self, _: IssueLog) -> Iterator[ImageRecord]:
        """Read the images; see `ImageReader`. Only the first pass logs issues and counts."""
        self._passes += 1
        first = self._passes == 1
        images = self._selected(self._read(self.issues if first else IssueLog()))
        if first:
            images = self._counted(self._losses.watch(images))
        return progress(images, "Reading" if first else "Writing", None, self._verbose)

    def _selected(self, images: Iterator[ImageRecord]) -> Iterator[ImageRecord]:
        count = 0
        for image in images:
            if self._split is None or self._split in (image.split, split_key(image.split)):
                count += 1
                yield image
        if not count:
            split = "" if self._split is None else f" in the split {self._split!r}"
            raise DataError(f"The source has no images{split} that can be converted; nothing was written.")

    def _counted(self, images: Iterator[ImageRecord]) -> Iterator[ImageRecord]:
        for image in images:
            self.images[image.split] += 1
            self.empty[image.split] += not image.instances
            self.instances[image.split] += len(image.instances)
            self.crowds[image.split] += sum(instance.crowd for instance in image.instances)
            yield image


def _log(report: ConversionReport) -> None:
    for messages, title in ((report.skipped, "Skipped"), (report.changed, "Changed"), (report.lost, "Lost")):
        for message in messages:
            LOGGER.warning(f"{title}: {message}")
    LOGGER.info(str(replace(report, skipped=(), changed=(), lost=())))
