"""`YOLO.embed`, `predict(embed=…)`, files of vectors and the nearest images."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from few_images import SMALL
from yolopose import YOLO
from yolopose.base.errors import DataError, NotFoundError, SourceError, UsageError
from yolopose.cli import main
from yolopose.data.images import read_image
from yolopose.predict.embedding import embed_images, embed_options
from yolopose.predict.embedding_index import EmbeddingIndex, Origin

torch = pytest.importorskip("torch")


@pytest.fixture
def model(tmp_path: Path) -> YOLO:
    file = tmp_path / "small-pose.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return YOLO(file)


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for file, shape in zip(files, [(64, 96), (64, 64), (96, 64), (64, 96), (50, 70)], strict=True):
        cv2.imwrite(str(file), rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    return [str(file) for file in files]


def maps_of(model: YOLO, images: torch.Tensor) -> dict[int, torch.Tensor]:
    """Return the output of every layer, from forward hooks."""
    maps: dict[int, torch.Tensor] = {}
    handles = [
        block.register_forward_hook(lambda _, __, output, index=index: maps.update({index: output}))
        for index, block in enumerate(model.model.model[:-1])
    ]
    with torch.no_grad():
        model.model.eval().features(images)
    for handle in handles:
        handle.remove()
    return maps


def test_vectors_are_means_of_feature_maps(model: YOLO, images: list[str]) -> None:
    image = read_image(images[0])  # 64 × 96 pixels are the network input itself
    pixels = torch.from_numpy(np.ascontiguousarray(image[..., ::-1]).transpose(2, 0, 1)[None]).float() / 255
    maps = {index: value.mean((2, 3))[0] for index, value in maps_of(model, pixels).items()}
    last = model.model.layers[-1].inputs[-1]
    (default,) = model.embed(images[0], imgsz=96)
    assert default.dtype == torch.float32
    torch.testing.assert_close(default, maps[last], rtol=1e-4, atol=1e-5)
    for layers in ([0], [2, 1], [-2, 0]):
        expected = torch.cat([maps[index % len(model.model.layers)] for index in layers])
        for vectors in (
            model.embed(images[0], layers=layers, imgsz=96),
            model.embed(images[0], embed=layers, imgsz=96),
            model.predict(images[0], embed=layers, imgsz=96, verbose=False),
        ):
            torch.testing.assert_close(vectors[0], expected, rtol=1e-4, atol=1e-5)


def test_vectors_do_not_depend_on_the_batch(model: YOLO, images: list[str]) -> None:
    alone = [model.embed(file, imgsz=64)[0] for file in images]
    stream = model.embed(images, True, imgsz=64, batch=2)
    assert iter(stream) is stream
    torch.testing.assert_close(list(stream), alone)
    torch.testing.assert_close(model.embed([read_image(file) for file in images], imgsz=64, batch=8), alone)


def test_unreadable_images_keep_their_place(model: YOLO, images: list[str], tmp_path: Path) -> None:
    Path(images[1]).write_bytes(b"not an image")
    vectors = model.embed(images, imgsz=64)
    assert [bool(vector.isnan().all()) for vector in vectors] == [False, True, False, False, False]
    assert len({vector.shape for vector in vectors}) == 1
    assert model.embed([images[1]] * 2, imgsz=64)[0].shape == vectors[0].shape
    with pytest.raises(SourceError):
        model.embed(images[1], imgsz=64)
    with pytest.raises(SourceError, match="None of the 2 images"):
        model.embed([images[1]] * 2, imgsz=64, output=tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize("layers", [[], [-1], [99], [0, 99], 99])
def test_layers_that_do_not_exist(layers: object, model: YOLO, images: list[str]) -> None:
    with pytest.raises(UsageError, match="has feature maps of the layers 0 to"):
        model.embed(images[0], layers=layers)


def test_exported_files_have_no_feature_maps(model: YOLO, images: list[str]) -> None:
    file = model.export(format="torchscript", imgsz=64, verbose=False)
    for call in (lambda: YOLO(file).embed(images), lambda: YOLO(file).predict(images, embed=[1])):
        with pytest.raises(UsageError, match=r"open the \.pt or \.safetensors"):
            call()
    with pytest.raises(UsageError, match="cannot be tracked"):
        model.track(images[0], embed=[1], verbose=False)


def test_index_finds_the_same_image_in_another_size(
    model: YOLO, images: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(model.save(tmp_path / "small.pt"))
    file = str(tmp_path / "index.npz")
    assert main(["embed", f"model={weights}", f"source={tmp_path}/*.png", "imgsz=64", f"output={file}"]) == 0
    index = EmbeddingIndex.load(file)
    assert index.paths == images
    assert index.origin.layers == (model.model.layers[-1].inputs[-1],)
    query = tmp_path / "query.jpg"
    cv2.imwrite(str(query), cv2.resize(read_image(images[2]), None, fx=2, fy=2))
    (vector,) = YOLO(weights).embed(query, imgsz=64)
    neighbors = index.search(vector, count=2)
    assert neighbors[0].path == images[2]
    assert neighbors[0].frame is None
    assert neighbors[0].similarity >= neighbors[1].similarity
    capsys.readouterr()
    assert main(["embed", f"source={query}", f"index={file}", "nearest=2"]) == 0  # the network of the index
    lines = "".join(capsys.readouterr()).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("  ")] == [item.path for item in neighbors]
    assert main(["embed", f"source={query}", f"index={file}", "layers=0"]) == 1
    assert "cannot be compared" in capsys.readouterr().err
    torch.manual_seed(1)
    other = YOLO(tmp_path / "small-pose.yaml").save(tmp_path / "other.pt")
    assert main(["embed", f"source={query}", f"index={file}", f"model={other}"]) == 1
    assert "other weights" in capsys.readouterr().err


def test_frames_of_videos_are_numbered(model: YOLO, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "walk.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for value in range(0, 200, 40):
        writer.write(np.full((64, 64, 3), value, np.uint8))
    writer.release()
    model.embed(tmp_path / "walk.avi", imgsz=64, vid_stride=2, output=tmp_path / "walk.npz", verbose=False)
    assert EmbeddingIndex.load(tmp_path / "walk.npz").frames.tolist() == [1, 3, 5]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", None])
def test_damaged_files_of_vectors(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "index.npz"
    if content is None:
        np.savez(file, vectors=np.zeros((2, 3)))
    else:
        file.write_bytes(content)
    with pytest.raises(DataError, match="is not a file of embeddings, or is damaged"):
        EmbeddingIndex.load(file)
    with pytest.raises(NotFoundError, match="yolo embed"):
        EmbeddingIndex.load(tmp_path / "absent.npz")


def test_an_index_checks_what_it_is_given(tmp_path: Path) -> None:
    index = EmbeddingIndex(["a", "b"], np.eye(2), origin=Origin("net.pt", layers=(3,)))
    with pytest.raises(UsageError, match=r"needs 2 finite values, as net\.pt computes with layers=\[3\]"):
        index.search(np.zeros(3))
    with pytest.raises(UsageError, match="finite"):
        index.search(np.array([np.nan, 1]))
    with pytest.raises(UsageError, match="one vector and frame for each path"):
        EmbeddingIndex(["a"], np.eye(2))
    with pytest.raises(UsageError, match=r"ends with \.npz"):
        index.save(tmp_path / "index.csv")


def test_images_of_a_real_network_are_nearest_to_their_changed_copies(shared: Path, tmp_path: Path) -> None:
    model = YOLO(shared / "checkpoints/yolo11n-pose.pt")
    files = sorted((shared / "data/coco-mini/images/val").glob("*.jpg"))[:24]
    for file in files:
        shutil.copyfile(file, tmp_path / file.name)
    model.embed(tmp_path, imgsz=256, batch=8, output=tmp_path / "index.npz", verbose=False)
    index = EmbeddingIndex.load(tmp_path / "index.npz")
    for file in files[:6]:
        image = read_image(file)
        for changed in (cv2.convertScaleAbs(image, alpha=1.2), cv2.resize(image, None, fx=0.5, fy=0.5)):
            assert Path(index.search(model.embed(changed, imgsz=256)[0])[0].path).name == file.name


def test_source_is_checked_before_the_first_image(model: YOLO) -> None:
    from yolopose.config import EmbedOptions

    with pytest.raises(NotFoundError):
        embed_images(model._runtime(), "absent.jpg", embed_options(EmbedOptions()))
