from __future__ import annotations

import pytest

from yolopose.base.errors import DataError
from yolopose.data.damaged import DamagedImages


def add(images: DamagedImages, count: int) -> None:
    for index in range(count):
        images.add(f"images/{index}.jpg", f"The image images/{index}.jpg is cut short.")


@pytest.mark.parametrize(("total", "accepted"), [(4, 3), (20, 3), (40, 4), (1000, 100)])
def test_limit(total: int, accepted: int) -> None:
    images = DamagedImages("a.yaml", "train", total)
    add(images, accepted)
    add(images, accepted)  # the same again
    assert len(images) == accepted
    with pytest.raises(DataError, match=rf"a\.yaml, train: {accepted + 1} of {total} images do not decode") as error:
        add(images, accepted + 1)
    text = str(error.value)
    assert f"\n  The image images/{accepted}.jpg is cut short." in text
    assert text.count("\n  The image") == min(accepted + 1, 5)
    assert "yolo doctor data=a.yaml fix=FOLDER" in text


def test_all_images_are_too_many() -> None:
    with pytest.raises(DataError, match="2 of 2 images"):
        add(DamagedImages("a.yaml", "val", 2), 2)


def test_warnings_and_summary(capsys: pytest.CaptureFixture[str]) -> None:
    images = DamagedImages("a.yaml", "train", 1000)
    images.log_summary()
    assert capsys.readouterr().err == ""
    add(images, 25)
    shown = capsys.readouterr().err
    assert shown.count("It is not used.") == 10
    assert "Further ones are only counted." in shown
    images.log_summary()
    assert "25 of 1000 images do not decode and were not used: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 20 more" in (
        capsys.readouterr().err
    )
