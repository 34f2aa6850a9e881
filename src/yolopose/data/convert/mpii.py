"""MPII Human Pose (human-pose.mpi-inf.mpg.de): the lists that HRNet, MMPose and CPM use, and the original .mat file.

Three layouts are read: a list of people with `joints` and `joints_vis` (HRNet, MMPose), a list with `joint_self` (CPM),
and `mpii_human_pose_v1_u12_1.mat`. The first is written. Coordinates count pixels from 1, as MATLAB does. The files
have no boxes: `center` and `scale` (height of the person / 200 pixels) and the box of the head are attributes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from yolopose.base.errors import DataError, DependencyError, NotFoundError
from yolopose.data.convert.class_file import (
    CLASS_FILE,
    class_file,
    image_to_json,
    parse_instance_values,
    read_class_file,
)
from yolopose.data.convert.grouping import to_number
from yolopose.data.convert.instances import default_names, ensure_box
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import ALL_FEATURES, AnnotationFormat, Feature, ReadOptions, WriteOptions
from yolopose.data.convert.record import (
    ClassTemplate,
    DatasetRecord,
    ImageRecord,
    Instance,
    IssueLog,
    Point,
    PointState,
)
from yolopose.data.convert.source_files import (
    ForeignLocator,
    Json,
    fill_size,
    folder_name,
    foreign_parts,
    read_json_value,
    starts_with,
)

NAMES = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "upper_neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
"""Names of the 16 joints, in the order of their ids."""
_SKELETON = (
    ("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("right_hip", "pelvis"), ("pelvis", "left_hip"),
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("pelvis", "thorax"), ("thorax", "upper_neck"),
    ("upper_neck", "head_top"), ("thorax", "right_shoulder"), ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"), ("thorax", "left_shoulder"), ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
)  # fmt: skip
_TITLE = "MPII"
_MAX_MAT_BYTES = 1 << 30
_REFERENCE_HEIGHT = 200.0  # pixels; `scale` is relative to it
_PERSON_KEYS = frozenset({"image", "joints", "joints_vis", "joints_state", "yolopose"})


class _Person:
    """A person of any layout.

    Attributes:
        image: name of the image as written.
        split: `train`, `val`, `test` or an empty text.
        joints: (K, 2) pixels, counted from 1.
        states: state of each joint.
        attributes: center, scale and head box as written, and other values.
        where: place in the source.
        extra: values that `write` added.
        template: the class.
    """

    def __init__(
        self, image: str, split: str, joints: Sequence[Sequence[float]], states: Sequence[int], where: str
    ) -> None:
        self.image = image
        self.split = split
        self.joints = joints
        self.states = states
        self.where = where
        self.attributes: Json = {}
        self.extra: Json = {}
        self.template = ClassTemplate(name="")


def read(source: Path, options: ReadOptions) -> DatasetRecord:
    """Read a list of people, a folder of such lists (one for each split), or the .mat file.

    Raises:
        NotFoundError: the file does not exist.
        DataError: a file is damaged.
        DependencyError: the source is a .mat file and SciPy is not installed.
    """
    files = _files(source)
    issues = IssueLog()
    people = [person for file in files for person in _read_file(file, len(files) > 1, options, issues)]
    if not people:
        raise DataError(f"{source} contains no person with joints.")
    root = files[0].parent
    stored = read_class_file(root)
    classes = stored.classes or (_template(people, options, source),)
    templates = {template.name: template for template in classes}
    for person in people:
        person.template = templates.get(str(person.extra.get("category")), classes[0])
        count = len(person.template.keypoints)
        if len(person.joints) != count:
            raise DataError(f"{person.where}: the person has {len(person.joints)} joints, others have {count}.")
    by_image: dict[tuple[str, str], list[_Person]] = {}
    for person in people:
        by_image.setdefault((person.split, person.image), []).append(person)
    locator = ForeignLocator(
        [options.images] if options.images else [root / "images", root.parent / "images", root, root.parent],
        dict.fromkeys(person.image for person in people),
    )

    def read_images(log: IssueLog) -> Iterator[ImageRecord]:
        for (split, name), members in by_image.items():
            image = ImageRecord(name="/".join(foreign_parts(name)), split=split, source=members[0].where)
            image.path = locator.find(name, log)
            image.instances = [_instance(person) for person in members]
            fill_size(image, log)
            yield stored.restore(image, name)

    return DatasetRecord(classes=classes, read_images=read_images, attributes=stored.attributes, issues=issues)


def _files(source: Path) -> list[Path]:
    files = [source]
    if source.is_dir():
        files = [file for file in sorted(source.glob("*.json")) if file.name != CLASS_FILE and detect(file)]
        files = files or sorted(source.glob("*.mat"))
    if not files:
        raise NotFoundError(f"{source} contains no .json or .mat file of {_TITLE}.")
    return files


def _template(people: Sequence[_Person], options: ReadOptions, source: Path) -> ClassTemplate:
    count = len(people[0].joints)
    name = options.classes[0] if options.classes else "person"
    if options.kpt_names:
        if len(options.kpt_names) != count:
            raise DataError(f"{source}: kpt_names has {len(options.kpt_names)} names, but a person has {count} joints.")
        return ClassTemplate(name=name, keypoints=options.kpt_names)
    if count == len(NAMES):
        return ClassTemplate(name=name, keypoints=NAMES, skeleton=_SKELETON)
    return ClassTemplate(name=name, keypoints=default_names(count))


def _joint_names(template: ClassTemplate) -> tuple[str, ...]:
    """Return the names of the joints in the order of the files: that of MPII for its 16 joints."""
    return NAMES if set(template.keypoints) == set(NAMES) else template.keypoints


def _instance(person: _Person) -> Instance:
    template = person.template
    points: dict[str, Point] = {}
    for name, (x, y), state in zip(_joint_names(template), person.joints, person.states, strict=True):
        if state:
            points[name] = Point(x - 1, y - 1, PointState(state))
    instance = Instance(category=template.name, points=points, attributes=person.attributes, source=person.where)
    fields = parse_instance_values(person.extra)
    instance.track_id = fields.get("track_id")
    instance.id = fields.get("id")
    return instance


def _read_file(file: Path, several: bool, options: ReadOptions, issues: IssueLog) -> Iterator[_Person]:
    if file.suffix.lower() == ".mat":
        yield from _read_mat(file, issues)
        return
    content = read_json_value(file, _TITLE)
    if isinstance(content, dict):
        content = cast(Json, content).get("root")  # CPM
    if not isinstance(content, list):
        raise DataError(f"{file} is not a file of {_TITLE}: its content must be a list of people.")
    split = file.stem if several else options.split or ""
    split = {"valid": "val"}.get(split, split)
    for index, values in enumerate(cast("list[object]", content)):
        where = f"{file}, person {index}"
        if not isinstance(values, dict):
            raise DataError(f"{where}: a person must be a JSON object; it is {str(values)[:80]!r}.")
        person = _parse_person(cast(Json, values), split, where)
        if not any(person.states):
            issues.skip("people without labeled joints", where)
            continue
        yield person


def _parse_person(values: Json, split: str, where: str) -> _Person:
    if "joint_self" in values:
        return _parse_cpm(values, split, where)
    name = values.get("image")
    if not isinstance(name, str) or not foreign_parts(name):
        raise DataError(f"{where}: `image` must be the name of the image; it is {str(name)[:80]!r}.")
    joints = _matrix(values.get("joints"), 2, where, "joints")
    flags = values.get("joints_state", values.get("joints_vis", [1] * len(joints)))
    rows = [[flag] for flag in cast("list[float]", flags)] if isinstance(flags, list) else flags
    visible = [row[0] for row in _matrix(rows, 1, where, "joints_vis")]
    if len(visible) != len(joints):
        raise DataError(f"{where}: `joints_vis` has {len(visible)} values, but `joints` has {len(joints)}.")
    has_states = "joints_state" in values
    states = [int(flag) if has_states else _state(xy, flag) for xy, flag in zip(joints, visible, strict=True)]
    person = _Person(name, split, joints, states, where)
    extra = values.get("yolopose")
    person.extra = dict(cast(Json, extra)) if isinstance(extra, dict) else {}
    # center and scale that `write` computed are not values of the source
    computed = person.extra.pop("computed", [])
    computed = cast("list[object]", computed) if isinstance(computed, list) else []
    keys = [key for key in values if key not in _PERSON_KEYS and key not in computed]
    person.attributes = {key: values[key] for key in keys} | parse_instance_values(extra)["attributes"]
    return person


def _parse_cpm(values: Json, split: str, where: str) -> _Person:
    name = values.get("img_paths")
    if not isinstance(name, str) or not foreign_parts(name):
        raise DataError(f"{where}: `img_paths` must be the name of the image; it is {str(name)[:80]!r}.")
    rows = _matrix(values.get("joint_self"), 3, where, "joint_self")
    states = [_state(row[:2], row[2]) for row in rows]
    validation = values.get("isValidation")
    own_split = "" if validation is None else "val" if validation else "train"
    person = _Person(name, split or own_split, [row[:2] for row in rows], states, where)
    names = {"objpos": "center", "scale_provided": "scale"}
    person.attributes = {names[key]: values[key] for key in names if key in values}
    return person


def _state(xy: Sequence[float], flag: float) -> PointState:
    """Return the state of a joint: one at -1, -1 or 0, 0 is not annotated, any other with 0 is hidden."""
    if flag > 0:
        return PointState.VISIBLE
    return PointState.HIDDEN if max(xy) > 0 else PointState.ABSENT


def _matrix(values: object, width: int, where: str, field: str) -> list[list[float]]:
    """Return rows of finite numbers.

    Raises:
        DataError: `values` is something else.
    """
    try:
        rows = np.asarray(values, dtype=np.float64)
        if rows.ndim == 2 and rows.shape[1] == width and len(rows) and np.isfinite(rows).all():
            return rows.tolist()
    except (TypeError, ValueError):
        pass
    raise DataError(f"{where}: `{field}` must be a list of {width} finite numbers for each joint.")


def _read_mat(file: Path, issues: IssueLog) -> Iterator[_Person]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DependencyError(
            'The .mat file of MPII is read with SciPy: pip install "yolopose[mat]". The JSON lists of HRNet and MMPose '
            "need nothing else."
        ) from error
    if file.stat().st_size > _MAX_MAT_BYTES:
        raise DataError(f"{file} has more than {_MAX_MAT_BYTES >> 20} MiB; the file of MPII has 15.")
    try:
        release = loadmat(str(file), struct_as_record=False, squeeze_me=True)["RELEASE"]
        images = np.atleast_1d(release.annolist)
        is_train = np.atleast_1d(release.img_train)
    except Exception as error:  # SciPy raises many kinds for damaged files
        raise DataError(f"{file} is not the .mat file of MPII ({type(error).__name__}: {error}).") from error
    for index, (entry, train) in enumerate(zip(images, is_train, strict=True)):
        for number, rect in enumerate(np.atleast_1d(getattr(entry, "annorect", []))):
            where = f"{file}, image {index + 1}, person {number + 1}"
            points = np.atleast_1d(getattr(getattr(rect, "annopoints", None), "point", []))
            if not points.size:
                if train:
                    issues.skip("people without labeled joints", where)
                continue
            yield _parse_mat_person(str(entry.image.name), "train" if train else "test", rect, points, where)


def _parse_mat_person(image: str, split: str, rect: Any, points: Any, where: str) -> _Person:
    joints = [[0.0, 0.0] for _ in NAMES]
    states = [0] * len(NAMES)
    for point in points:
        x, y, joint = (to_number(getattr(point, name, None)) for name in ("x", "y", "id"))
        if x is None or y is None or joint is None or not 0 <= joint < len(NAMES):
            raise DataError(f"{where}: a joint must have x, y and an id from 0 to 15; it has {x}, {y}, {joint}.")
        joints[int(joint)] = [x, y]
        # an empty `is_visible` means visible
        hidden = str(getattr(point, "is_visible", "")) == "0"
        states[int(joint)] = PointState.HIDDEN if hidden else PointState.VISIBLE
    person = _Person(image, split, joints, states, where)
    head = [to_number(getattr(rect, name, None)) for name in ("x1", "y1", "x2", "y2")]
    position = [to_number(getattr(getattr(rect, "objpos", None), name, None)) for name in ("x", "y")]
    scale = to_number(getattr(rect, "scale", None))
    values: Mapping[str, Any] = {"center": position, "scale": scale, "head_box": head}
    person.attributes = {
        key: value
        for key, value in values.items()
        if value is not None and not (isinstance(value, list) and None in value)
    }
    return person


def detect(path: Path) -> bool:
    """Return whether a path is a list of people or a .mat file of MPII, or a folder with them."""
    if path.is_dir():
        files = [file for file in sorted(path.glob("*.json"))[:8] if file.name != CLASS_FILE]
        return any(detect(file) for file in files) or any(path.glob("mpii_human_pose*.mat"))
    if path.suffix.lower() == ".mat":
        return "mpii" in path.name.lower()
    is_list = starts_with(path, [b'"joints"', b'"center"']) or starts_with(path, [b'"joint_self"'])
    return path.suffix.lower() == ".json" and is_list


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write one list for each split, in the layout of HRNet and MMPose, and the images.

    A class with the 16 joints of MPII is written in their order, any other in its own order.
    """
    splits: dict[str, None] = {}
    extra: dict[str, Json] = {}
    copies = options.copy_images is not False
    for image in dataset.images(issues):
        splits.setdefault(image.split)
        name = folder_name(image)
        plan.add(
            f"images/{name}", f"{image.name!r} of {image.split or 'the source'}", image.content if copies else None
        )
        extra[name.as_posix()] = image_to_json(image)
    several = len(splits) > 1
    lists = {
        split: plan.add(f"{split or 'mpii'}.json", f"the people of {split}")
        if several
        else plan.main(f"{split or 'mpii'}.json", "the list of people")
        for split in splits
    }
    plan.add(CLASS_FILE, "the class file")
    plan.check()
    people: dict[str, list[Json]] = {split: [] for split in splits}
    for image in dataset.images():
        for instance in image.instances:
            template = dataset.template(instance.category)
            person = _to_person(image, instance, template, issues)
            if person is not None:
                people[image.split].append(person)
    for split, path in lists.items():
        plan.write(path, json.dumps(people[split]))
    plan.write(CLASS_FILE, class_file(dataset, extra))
    for path in plan.copies:
        plan.copy(path)
    return plan.target if several else plan.target / next(iter(lists.values()))


def _to_person(image: ImageRecord, instance: Instance, template: ClassTemplate, issues: IssueLog) -> Json | None:
    box = ensure_box(instance, image, IssueLog())
    if box is None or not instance.labeled:
        issues.skip("instances without labeled keypoints", f"{image.name}: {instance.category}")
        return None
    names = _joint_names(template)
    points = [instance.points.get(name, Point(-2, -2, PointState.ABSENT)) for name in names]
    points = [point if point.state else Point(-2, -2, PointState.ABSENT) for point in points]
    person: Json = {
        "image": folder_name(image).as_posix(),
        "joints": [[point.x + 1, point.y + 1] for point in points],
        # HRNet leaves out joints with 0, hidden ones are labeled
        "joints_vis": [int(point.state > 0) for point in points],
        "joints_state": [int(point.state) for point in points],
    }
    attributes = dict(instance.attributes)
    computed = [key for key in ("center", "scale") if key not in attributes]
    if computed:
        center = [box.x + box.width / 2 + 1, box.y + box.height / 2 + 1]
        values: Json = {"center": center, "scale": max(box.height, box.width) / _REFERENCE_HEIGHT}
        person |= {key: values[key] for key in computed}
        issues.change("center and scale of people were computed from their boxes", image.name)
    person |= {key: attributes.pop(key) for key in ("center", "scale", "head_box") if key in attributes}
    extra: Json = {
        "category": instance.category,
        "track_id": instance.track_id,
        "id": instance.id,
        "attributes": attributes,
        "computed": computed,
    }
    return person | {"yolopose": {key: value for key, value in extra.items() if value not in (None, {}, [])}}


FORMAT = AnnotationFormat(
    name="mpii",
    title="MPII",
    capabilities=ALL_FEATURES
    - {
        Feature.EMPTY_IMAGE,
        Feature.BOX,
        Feature.NO_POINTS,
        Feature.ROTATION,
        Feature.CROWD,
        Feature.AREA,
        Feature.SEGMENTATION,
        Feature.CONFIDENCE,
        Feature.ABSENT_XY,
        Feature.POINT_CONFIDENCE,
    },
    detect=detect,
    read=read,
    write=write,
    suffixes=(".json",),
)
