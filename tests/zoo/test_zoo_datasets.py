"""The facts of the data sets of the zoo, against each other and against labels of these data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from yolopose.data import load_dataset, load_labels
from yolopose.data.catalog import KnownDataset, known_dataset, known_datasets
from yolopose.data.side_names import infer_flip_idx
from yolopose.data.yaml_checks import KNOWN_KEYS
from yolopose.schema import COCO_PERSON_NAMES

ENTRIES = known_datasets()
# name of the folder of labels of a data set, and name of that data set in the zoo
SAMPLES = {
    "300w": "300w",
    "animalpose": "animal-pose",
    "ap10k": "ap10k",
    "deepfasion2": "deepfashion2",
    "fly": "fly",
    "freihand": "freihand",
    "horse10": "horse10",
    "panoptic": "panoptic-hand",
}
HANDS = ("freihand", "panoptic-hand")


def by_name(entry: KnownDataset) -> str:
    return entry.name


def test_popular_data_sets_are_known() -> None:
    names = {entry.name for entry in ENTRIES}
    wanted = {"coco-pose", "crowdpose", "mpii", "aic", "halpe26", "ap10k", "animal-pose", "freihand", "onehand10k"}
    wanted |= {"coco-wholebody-hand", "300w", "deepfashion2", "horse10", "fly", "atrw", "dog-pose", "hand-keypoints"}
    assert wanted <= names


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_schema_is_consistent(entry: KnownDataset) -> None:
    keypoints = entry.spec.keypoints
    names = keypoints.keypoint_names(0)
    assert len(set(names)) == keypoints.count
    flip = keypoints.flip_idx
    assert flip is not None
    assert [flip[partner] for partner in flip] == list(range(keypoints.count))
    edges = {frozenset(edge) for edge in keypoints.skeleton}
    assert {frozenset((flip[a], flip[b])) for a, b in keypoints.skeleton} == edges, "the skeleton is not symmetric"
    if inferred := infer_flip_idx(names):
        sided = [index for index, partner in enumerate(inferred) if index != partner]
        assert [flip[index] for index in sided] == [inferred[index] for index in sided]


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_terms_and_source_are_stated(entry: KnownDataset) -> None:
    raw = yaml.safe_load(entry.path.read_text(encoding="utf-8"))
    assert set(raw) <= set(KNOWN_KEYS)
    assert entry.title
    assert entry.license
    assert entry.kind in ("people", "animals", "hands", "faces", "clothes")
    is_drawn = "figures" in raw
    assert entry.source.startswith("http") or is_drawn
    assert bool(entry.download) + bool(entry.get) + is_drawn == 1
    assert bool(raw.get("kpt_oks_sigmas")) <= bool(entry.sigmas), "the origin of the sigmas is not stated"
    assert set(raw["info"]) <= {
        "title", "kind", "source", "paper", "license", "images", "size", "total", "sigmas", "flips", "get"
    }  # fmt: skip


@pytest.mark.parametrize("sample", SAMPLES)
def test_keypoints_are_those_of_the_annotations(sample: str, shared: Path) -> None:
    data = load_dataset(shared / f"data/zoo-mini/{sample}/{sample}.yaml")
    entry = known_dataset(SAMPLES[sample])
    assert entry.spec.keypoints.count == data.spec.keypoints.count
    names = data.spec.keypoints.keypoint_names(0)
    if sample not in ("300w", "deepfasion2"):  # these have only numbers
        assert entry.spec.keypoints.keypoint_names(0) == names
    assert set(data.spec.classes) <= set(entry.spec.classes)


def mirror_error(points: np.ndarray, flip: np.ndarray) -> float:
    """Return how far the mirrored, renamed points are from the original ones after the best similarity transform.

    Args:
        points: (K, 2), complex after conversion.
        flip: (K,) permutation.
    """
    original = points @ np.array([1, 1j])
    other = (points[flip] * [-1, 1]) @ np.array([1, 1j])
    original = original - original.mean()
    other = other - other.mean()
    scale = np.vdot(other, original) / np.vdot(other, other)
    return float(np.abs(original - scale * other).mean() / np.abs(original).mean())


@pytest.mark.parametrize("sample", ["300w", "deepfasion2", "fly"])
def test_mirror_pairs_fit_the_labels(sample: str, shared: Path) -> None:
    """Faces, clothes and insects are nearly symmetric: mirrored with the right pairs, they fit themselves."""
    labels = load_labels(load_dataset(shared / f"data/zoo-mini/{sample}/{sample}.yaml"), "val", cache=False)
    flip = np.array(known_dataset(SAMPLES[sample]).spec.keypoints.flip_idx)
    errors = []
    for index in range(len(labels)):
        height, width = labels.shapes[index]
        for points in labels[index].keypoints:
            labeled = points[:, 2] > 0
            labeled &= labeled[flip]
            rows = np.flatnonzero(labeled)
            position = {int(row): place for place, row in enumerate(rows)}
            own = np.array([position[int(partner)] for partner in flip[rows]])
            xy = points[rows, :2] * [width, height]
            errors.append((mirror_error(xy, own), mirror_error(xy, np.arange(len(rows)))))
    right, identity = np.mean(errors, axis=0)
    assert right < 0.3
    assert right < 0.5 * identity


def test_near_and_off_are_sides_of_a_horse(shared: Path) -> None:
    """The horses face right, so the hooves of the off (right) side are closer to the camera: lower in the image."""
    labels = load_labels(load_dataset(shared / "data/zoo-mini/horse10/horse10.yaml"), "val", cache=False)
    names = known_dataset("horse10").spec.keypoints.keypoint_names(0)
    near, off = ([names.index(f"{side}{part}foot") for part in ("front", "hind")] for side in ("Near", "Off"))
    nose, hip = names.index("Nose"), names.index("Hip")
    differences = []
    for points in labels.keypoints:
        if (points[[nose, hip], 2] > 0).all():
            assert points[nose, 0] > points[hip, 0], "this horse faces left"
        for a, b in zip(near, off, strict=True):
            if (points[[a, b], 2] > 0).all():
                differences.append(points[b, 1] - points[a, 1])
    assert len(differences) >= 3
    assert np.mean(differences) > 0


def test_hands_of_all_sets_agree() -> None:
    for name in HANDS:
        keypoints = known_dataset(name).spec.keypoints
        assert keypoints.keypoint_names(0) == known_dataset("coco-wholebody-hand").spec.keypoints.keypoint_names(0)
        assert keypoints.flip_idx == tuple(range(21))


def test_coco_wholebody_extends_coco() -> None:
    keypoints = known_dataset("coco-wholebody").spec.keypoints
    coco = known_dataset("coco-pose").spec.keypoints
    assert keypoints.keypoint_names(0)[:17] == COCO_PERSON_NAMES
    assert keypoints.flip_idx is not None
    assert keypoints.flip_idx[:17] == coco.flip_idx
    assert keypoints.sigmas is not None
    assert keypoints.sigmas[:17] == pytest.approx(coco.oks_sigmas)
