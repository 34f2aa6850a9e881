"""Difference hash of images, and groups of equal or nearly equal ones without comparing all pairs.

dHash: a gray image is reduced to 9×8 pixels; each bit states whether a pixel is clearly brighter than its right
neighbor. The margin keeps the bits of flat regions from depending on the noise of the compression.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

THUMB_SIDE = 16
"""Side of the gray thumbnails that confirm what hashes suggest, pixels."""

MAX_DISTANCE = 4
"""Most different bits of 64 in nearly equal images."""

# Five bands: two hashes with at most four different bits have at least one equal band.
_BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
_MAX_LEADERS = 256  # per bucket; a bucket of a band with more distinct images is sampled by its first ones
_MAX_MEAN = 3.0  # gray levels by which thumbnails of nearly equal images differ at most, on average

_MAX_PIXEL = 12  # and in any pixel: a small animal that moved is another image
_BIT_MARGIN = 2  # gray levels by which a pixel must be brighter
_MIN_CONTRAST = 6.0  # standard deviation of a thumbnail, gray levels; flat images have meaningless hashes

Image = npt.NDArray[np.uint8]
HashArray = npt.NDArray[np.uint64]


def difference_hash(gray: Image) -> int:
    """Return the 64-bit dHash of a gray image (H, W)."""
    small = np.asarray(cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)).astype(np.int16)
    bits = (small[:, :-1] > small[:, 1:] + _BIT_MARGIN).reshape(-1)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hamming(first: HashArray, second: HashArray | np.uint64) -> npt.NDArray[np.uint8]:
    """Return the number of different bits of each pair."""
    different = np.atleast_1d(first ^ second)
    return _BIT_COUNTS[different.view(np.uint8).reshape(len(different), 8)].sum(axis=1, dtype=np.uint8)


_BIT_COUNTS = np.array([value.bit_count() for value in range(256)], dtype=np.uint8)


def near_groups(hashes: HashArray, thumbs: Image, usable: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Group nearly equal images.

    Images that share a band of the hash are candidates; a candidate joins the first image of its band whose hash
    differs in at most `MAX_DISTANCE` bits and whose thumbnail is nearly equal. The time grows with the number of
    images times the number of distinct ones per band, never with all pairs.

    Args:
        hashes: (n,) from `difference_hash`.
        thumbs: (n, S, S) gray thumbnails.
        usable: (n,) bool, images to compare; flat ones are skipped.

    Returns:
        Indices of each group with at least two images, ascending.
    """
    parents = np.arange(len(hashes))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = int(parents[index])
        return index

    contrast = thumbs.reshape(len(thumbs), -1).std(axis=1) if len(thumbs) else np.zeros(0)
    rows = np.flatnonzero(usable & (contrast >= _MIN_CONTRAST))
    for shift, width in _BANDS:
        keys = (hashes[rows] >> np.uint64(shift)) & np.uint64((1 << width) - 1)
        order = np.argsort(keys, kind="stable")
        bounds = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(rows[order], bounds):
            if len(bucket) > 1:
                for follower, leader in _follow_leaders(bucket, hashes, thumbs):
                    first, second = sorted((root(follower), root(leader)))
                    parents[second] = first
    labels = np.array([root(index) for index in range(len(hashes))], dtype=np.int64)
    return _groups(labels)


def _follow_leaders(bucket: npt.NDArray[np.int64], hashes: HashArray, thumbs: Image) -> list[tuple[int, int]]:
    """Return (image, leader) of the images of a bucket that are nearly equal to an earlier one."""
    edges: list[tuple[int, int]] = []
    remaining = bucket
    for _ in range(_MAX_LEADERS):
        if len(remaining) < 2:
            break
        leader = int(remaining[0])
        rest = remaining[1:]
        near = hamming(hashes[rest], hashes[leader]) <= MAX_DISTANCE
        close = rest[near]
        if len(close):
            equal = nearly_equal(thumbs[close], thumbs[leader])
            edges += [(int(index), leader) for index in close[equal]]
            near[np.flatnonzero(near)[~equal]] = False
        remaining = rest[~near]
    return edges


def nearly_equal(thumbs: Image, other: Image) -> npt.NDArray[np.bool_]:
    """Return whether thumbnails (n, S, S) are nearly equal to another one (S, S)."""
    difference = np.abs(thumbs.astype(np.int16) - other.astype(np.int16)).reshape(len(thumbs), -1)
    return (difference.mean(axis=1) <= _MAX_MEAN) & (difference.max(axis=1) <= _MAX_PIXEL)


def equal_groups(digests: HashArray) -> list[npt.NDArray[np.int64]]:
    """Group files of equal contents by their digest; 0 marks files that were not read."""
    rows = np.flatnonzero(digests != 0)
    groups = _groups(digests[rows])
    return [rows[group] for group in groups]


def _groups(labels: npt.NDArray[np.generic]) -> list[npt.NDArray[np.int64]]:
    """Return the indices of each label that occurs more than once."""
    if not len(labels):
        return []
    order = np.argsort(labels, kind="stable")
    bounds = np.flatnonzero(labels[order][1:] != labels[order][:-1]) + 1
    return [group for group in np.split(order, bounds) if len(group) > 1]
