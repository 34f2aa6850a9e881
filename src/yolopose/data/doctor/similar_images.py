"""Images that a model sees as copies: with changed brightness, colors, size or border, which hashes of pixels miss.

The vectors of a network (embeddings) are compared within the data set: a pair is reported if its distance is far below
the usual distance of an image to its nearest neighbor, so that frames of one camera, which are all similar, are not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from yolopose.data.doctor.findings import Evidence, Example, check, plural
from yolopose.data.doctor.image_checks import equal_images, near_images, pool_images
from yolopose.data.doctor.survey import Survey
from yolopose.data.nearest import nearest_rows, similar_pairs, unit_vectors

_MAX_RATIO = 0.4  # of the distance of a pair to the median distance of an image to its nearest neighbor
_MIN_IMAGES = 20  # from which the median is meaningful

ImageVectors = Mapping[str, npt.NDArray[np.float32]]


def add_vectors(survey: Survey, vectors: ImageVectors) -> None:
    """Add the vectors of a network to a survey.

    Args:
        survey: the data set.
        vectors: by split (n, D), a row for each of its images; NaN where the image cannot be read.
    """
    survey.memo["vectors"] = vectors


@check(
    "image-similar",
    "notice",
    why="The model sees these images as one, so that copies with other colors, size or border add little to the "
    "training, and in two splits they raise the scores.",
    how="Look at the pairs, and keep one image of each that shows the same.",
)
def image_similar(survey: Survey) -> Iterator[Evidence]:
    """Report pairs that are much more similar than other images; needs the vectors of a model."""
    vectors: ImageVectors = survey.memo.get("vectors", {})
    pool = pool_images(survey)
    if not vectors or sum(len(split.files) for split in pool.splits) < _MIN_IMAGES:
        return
    length = next(iter(vectors.values())).shape[1]
    parts = [vectors.get(split.name, np.zeros((len(split.files), length), np.float32)) for split in pool.splits]
    rows = unit_vectors(np.concatenate(parts))
    known = {tuple(sorted(pair)) for group in (*equal_images(survey), *near_images(survey)) for pair in _pairs(group)}
    examples: dict[tuple[str, str], list[Example]] = defaultdict(list)
    threshold = _threshold(rows)
    for first, second in similar_pairs(rows, threshold).tolist() if threshold else []:
        if (first, second) in known:
            continue
        (other_split, _), (split, image) = pool.locate(first), pool.locate(second)
        similarity = float(rows[first] @ rows[second])
        where = f" of {other_split.name}" if other_split is not split else ""
        examples[other_split.name, split.name].append(
            Example(
                text=f"similar to {pool.file(first).name}{where} (similarity {similarity:.4f})",
                split=split.name,
                image=image,
                file=split.files[image],
                other=pool.file(first),
                score=similarity,
            )
        )
    for (other, name), members in examples.items():
        noun = plural(len(members), "image is", "images are")
        rest = f"another one of {name}" if other == name else f"one of {other}"
        yield Evidence(
            count=len(members),
            title=f"{noun} almost the same for the model as {rest}",
            severity="warning" if other != name else None,
            examples=members,
        )


def _threshold(rows: npt.NDArray[np.float32]) -> float:
    """Return the similarity from which images are reported; 0 where most images have an equal one."""
    _, similarities = nearest_rows(rows, rows, 2)  # the nearest row is the row itself
    distances = np.sqrt(np.maximum(2 - 2 * similarities[:, 1].astype(np.float64), 0))
    limit = _MAX_RATIO * float(np.median(distances))
    return 1 - limit**2 / 2 if limit > 1e-3 else 0.0


def _pairs(group: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    members = group.tolist()
    return ((first, second) for number, first in enumerate(members) for second in members[number + 1 :])
