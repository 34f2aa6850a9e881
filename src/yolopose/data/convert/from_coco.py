"""`convert_coco`: COCO keypoint annotations to label files and a data YAML, in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yolopose.base.errors import DataError, UsageError
from yolopose.base.files import expand_user
from yolopose.base.log import LOGGER
from yolopose.data.convert.coco import FAULTY, NOT_IMAGES, CocoFile, make_record, open_files
from yolopose.data.convert.locate import NOT_FOUND, OUTSIDE, ImageLocator
from yolopose.data.convert.output import OutputPlan, check_target
from yolopose.data.convert.protocol import ReadOptions, WriteOptions
from yolopose.data.convert.record import DatasetRecord, ImageRecord, Issue, IssueLog
from yolopose.data.convert.yolo_writer import WrittenSplit, write_yolo
from yolopose.data.images import IMAGE_SUFFIXES


@dataclass(frozen=True, slots=True)
class ConversionResult:
    """What a conversion wrote; counts are by split.

    Attributes:
        data: the data YAML.
        images: number of images.
        instances: number of label rows.
        crowds: number of crowd annotations, which have no label row.
        skipped: number of faulty annotations that were skipped.
    """

    data: Path
    images: Mapping[str, int]
    instances: Mapping[str, int]
    crowds: Mapping[str, int]
    skipped: Mapping[str, int]

    @property
    def objects(self) -> Mapping[str, int]:
        """Alias of `instances`, the name in yolopose 0.1."""
        return self.instances


def convert_coco(
    labels_dir: str | Path = "../coco/annotations/",
    save_dir: str | Path = "coco_converted/",
    use_segments: bool = False,
    use_keypoints: bool = True,
    cls91to80: bool = True,
    lvis: bool = False,
    *,
    images_dir: str | Path | None = None,
) -> ConversionResult:
    """Write label files and a data YAML from COCO keypoint JSON files.

    Each file `person_keypoints_NAME.json` becomes the split `labels/NAME`. Coordinates are written with 8 decimals.
    Images that are located are copied to `images/NAME`, with their sub-folders. Files without keypoint categories
    (captions, boxes) are skipped. Nothing is written unless the whole output can be written without a clash. `convert`
    does the same for all formats.

    Args:
        labels_dir: folder of the JSON files, or one of them.
        save_dir: output folder; it must be empty or absent.
        use_segments: must be False; segments are not used for pose estimation.
        use_keypoints: must be True; a pose network cannot be trained on boxes only.
        cls91to80: has no effect: classes are the categories that have keypoints, in the order of their ids.
        lvis: must be False.
        images_dir: folder of the images, or of their split folders; searched for beside `labels_dir` when None.

    Raises:
        UsageError: an option asks for something other than poses.
        NotFoundError: no JSON file exists.
        DataError: a JSON file is damaged, its categories have different numbers of keypoints, an image name leaves the
            folder of the images, or two outputs would have the same path.
        OutputError: `save_dir` is not empty or cannot be written.
    """
    if use_segments or lvis or not use_keypoints:
        raise UsageError("yolopose converts keypoints: call convert_coco(labels_dir=…, use_keypoints=True).")
    source = expand_user(labels_dir)
    target = expand_user(save_dir)
    check_target(target)
    options = ReadOptions(images=expand_user(images_dir) if images_dir else None)
    issues = IssueLog()
    files = open_files(source, options, issues)
    for file in files:
        file.split = file.split or file.path.stem
    record = make_record(files, source, options, issues)
    _check_keypoints(files, source)
    logs: dict[str, IssueLog] = {}
    record = _with_split_logs(record, files, source, options, logs)
    plan = OutputPlan(target)
    try:
        data, written = write_yolo(record, plan, WriteOptions(), issues)
    except BaseException:
        plan.discard()
        raise
    result = _make_result(data, written, logs)
    for file in files:
        _warn_missing_images(file, logs[file.split], target)
        issues.update(logs[file.split])
    for title, kinds in (("Skipped", issues.skipped), ("Changed", issues.changed)):
        for issue in kinds.values():
            LOGGER.warning(f"{title}: {issue}")
    LOGGER.info(_summary(result))
    return result


def _with_split_logs(
    record: DatasetRecord, files: Sequence[CocoFile], source: Path, options: ReadOptions, logs: dict[str, IssueLog]
) -> DatasetRecord:
    """Return a record whose images are located beside their own file; `logs` receives the issues of each split."""

    def read_images(_: IssueLog) -> Iterator[ImageRecord]:
        for file in files:
            logs[file.split] = IssueLog()  # that of the last pass remains
            yield from file.read_images(ImageLocator.beside(source, options.images, file.file_names), logs[file.split])

    return replace(record, read_images=read_images)


def _make_result(data: Path, written: Mapping[str, WrittenSplit], logs: Mapping[str, IssueLog]) -> ConversionResult:
    """Return the counts by split; annotations that the reader skipped as faulty leave `logs`."""
    faulty = {split: logs[split].skipped.pop(FAULTY, Issue(FAULTY)).count for split in written}
    return ConversionResult(
        data=data,
        images={split: counts.images for split, counts in written.items()},
        instances={split: counts.instances for split, counts in written.items()},
        crowds={split: counts.crowds for split, counts in written.items()},
        skipped={split: counts.skipped + faulty[split] for split, counts in written.items()},
    )


def _check_keypoints(files: list[CocoFile], source: Path) -> None:
    templates = [template for file in files for template in file.classes if template.keypoints]
    if not templates:
        raise DataError(f"No category in {source} has keypoints (`keypoints: [names]`).")
    counts = {len(template.keypoints) for template in templates}
    if len(counts) > 1:
        raise DataError(
            f"The categories have {sorted(counts)} keypoints; a pose network has the same number for all classes. "
            "Convert each category separately, or give all classes the union of their keypoints with `yolo convert "
            "to=yolo` (yolopose.data.convert.convert)."
        )


def _warn_missing_images(file: CocoFile, log: IssueLog, target: Path) -> None:
    """Warn of images that were not copied, and of entries that are not images; their issues are removed."""
    total = len(file.document.offsets["images"])
    if not_images := log.skipped.pop(NOT_IMAGES, None):
        LOGGER.warning(
            f"{file.path}: {not_images.count} of {total} entries of `images` are not image files and are skipped "
            f"(supported suffixes: {' '.join(sorted(IMAGE_SUFFIXES))})."
        )
    advice = f"Copy them to {target / 'images' / file.split}, or give their folder (images=…; images_dir in Python)."
    if outside := log.changed.pop(OUTSIDE, None):
        LOGGER.warning(
            f"{outside.count} of {total} images of {file.split} were not copied: {outside.examples[0]}. {advice}"
        )
    if missing := log.changed.pop(NOT_FOUND, None):
        LOGGER.warning(f"{missing.count} of {total} images of {file.split} were not found ({missing.advice}). {advice}")


def _summary(result: ConversionResult) -> str:
    lines = [
        f"{name}: {result.images[name]} images, {result.instances[name]} instances, {result.crowds[name]} crowds "
        f"(stored in labels/{name}.coco.json), {result.skipped[name]} faulty annotations skipped"
        for name in result.images
    ]
    return "\n".join([*lines, f"Data YAML: {result.data}"])
