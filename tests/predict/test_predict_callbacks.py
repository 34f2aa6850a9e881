"""Callbacks of prediction: order of the events, and batches that are those of the network."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_runtime import FakeRuntime, painted
from yolopose.base.callbacks import Callbacks
from yolopose.config import PredictOptions
from yolopose.predict import Predictor, parallel, predict
from yolopose.results import Results
from yolopose.runtime import Candidates

WIDE, TALL = (60, 120), (120, 60)
EVENTS = ("start", "batch_start", "postprocess_end", "batch_end", "end")


class Replicated(FakeRuntime):
    """Shares its record of network inputs with three replicas."""

    def replicas(self, count: int) -> list[FakeRuntime]:
        return [FakeRuntime(shapes=self.shapes) for _ in range(count)]


class Recorder:
    """Records each event with the paths of the batch and the number of inputs that the network had by then."""

    def __init__(self, runtime: FakeRuntime, events: tuple[str, ...] = EVENTS) -> None:
        self.runtime = runtime
        self.events: list[tuple[str, list[str], int]] = []
        self.batches: list[list[str]] = []
        self.callbacks = Callbacks()
        for event in events:
            self.callbacks.add(f"on_predict_{event}", self._listener(event))

    def _listener(self, event: str):  # type: ignore[no-untyped-def]
        def listen(run: Predictor) -> None:
            self.events.append((event, list(run.batch), len(self.runtime.shapes)))
            if event == "postprocess_end":
                assert [result.path for result in run.results] == run.batch
                self.batches.append(list(run.batch))

        return listen


def run(
    runtime: FakeRuntime, shapes: list[tuple[int, int]], recorder: Recorder | None, batch: int, **more: object
) -> list[Results]:
    images = [painted(height, width, (5 + i, 7, 25 + i, 20)) for i, (height, width) in enumerate(shapes)]
    options = PredictOptions(imgsz=128, verbose=False, batch=batch, **more)  # type: ignore[arg-type]
    return list(predict(runtime, images, options, recorder.callbacks if recorder else None))


@pytest.fixture(autouse=True)
def _three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "physical_cores", lambda: 3)


@pytest.mark.parametrize("runtime", [FakeRuntime(), Replicated()])
def test_batch_start_precedes_the_computation_of_the_batch(runtime: FakeRuntime) -> None:
    recorder = Recorder(runtime)
    run(runtime, [WIDE] * 40, recorder, batch=2)
    assert (recorder.events[0][0], recorder.events[-1][0]) == ("start", "end")
    assert len(recorder.events) == 2 + 3 * 20
    for index in range(20):
        paths = [f"image{2 * index}.jpg", f"image{2 * index + 1}.jpg"]
        assert recorder.events[1 + 3 * index : 4 + 3 * index] == [
            ("batch_start", paths, index), ("postprocess_end", paths, index + 1), ("batch_end", paths, index + 1),
        ]  # fmt: skip
    runtime.shapes.clear()


@pytest.mark.parametrize("events", [EVENTS, ("postprocess_end",)])
@pytest.mark.parametrize("make", [FakeRuntime, Replicated])
def test_callbacks_see_the_batches_of_the_network(events: tuple[str, ...], make: type[FakeRuntime]) -> None:
    shapes = [WIDE, TALL, WIDE, WIDE, TALL, WIDE, TALL, TALL, WIDE, WIDE]
    runtime = make()
    recorder = Recorder(runtime, events)
    results = run(runtime, shapes, recorder, batch=2)
    assert [result.path for result in results] == [f"image{index}.jpg" for index in range(len(shapes))]
    # Windows of 4 · 2 images; within each the images of one size follow each other.
    assert recorder.batches == [
        ["image0.jpg", "image2.jpg"], ["image1.jpg", "image4.jpg"], ["image3.jpg", "image5.jpg"],
        ["image6.jpg", "image7.jpg"], ["image8.jpg", "image9.jpg"],
    ]  # fmt: skip
    by_size = {WIDE: (64, 128), TALL: (128, 64)}
    inputs = [(len(batch), 3, *by_size[shapes[int(batch[0][5:-4])]]) for batch in recorder.batches]
    assert sorted(runtime.shapes) == sorted(inputs)
    if events == EVENTS:
        assert runtime.shapes == inputs


def test_callbacks_do_not_change_the_results() -> None:
    shapes = [WIDE, TALL, WIDE, (90, 90), TALL, WIDE, (30, 60), WIDE, WIDE]
    plain = run(FakeRuntime(), shapes, None, batch=4)
    runtime = FakeRuntime()
    observed = run(runtime, shapes, Recorder(runtime), batch=4)
    for first, second in zip(plain, observed, strict=True):
        np.testing.assert_array_equal(first.boxes.data, second.boxes.data)
        np.testing.assert_array_equal(first.keypoints.data, second.keypoints.data)


def test_unreadable_images_are_not_part_of_a_batch(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"rubbish")
    image, runtime = painted(*WIDE, (5, 7, 25, 20)), FakeRuntime()
    sources = [tmp_path / "broken.png", image, image, tmp_path / "broken.png"]
    recorder = Recorder(runtime)
    results = list(predict(runtime, sources, PredictOptions(imgsz=128, verbose=False, batch=4), recorder.callbacks))
    assert [result.error is None for result in results] == [False, True, True, False]
    assert recorder.batches == [["image1.jpg", "image2.jpg"]]


def test_changed_results_are_returned() -> None:
    def drop_boxes(predictor: Predictor) -> None:
        predictor.results = [result[:0] for result in predictor.results]

    callbacks = Callbacks()
    callbacks.add("on_predict_postprocess_end", drop_boxes)
    image = painted(*WIDE, (5, 7, 25, 20))
    results = list(predict(FakeRuntime(), [image] * 3, PredictOptions(imgsz=128, verbose=False, batch=2), callbacks))
    assert [len(result) for result in results] == [0, 0, 0]


class Overlapping(FakeRuntime):
    """Finishes the first image only when another one has begun."""

    def __init__(self, started: list[int], second_started: threading.Event) -> None:
        super().__init__()
        self.started, self.second_started = started, second_started

    def infer(self, batch: np.ndarray, **options: Any) -> Candidates:
        self.started.append(len(batch))
        if len(self.started) > 1:
            self.second_started.set()
        assert self.second_started.wait(timeout=60)
        return super().infer(batch, **options)

    def replicas(self, count: int) -> list[FakeRuntime]:
        return [Overlapping(self.started, self.second_started) for _ in range(count)]


def test_without_a_start_callback_batches_are_computed_in_parallel() -> None:
    callbacks = Callbacks()
    callbacks.add("on_predict_batch_end", lambda _: None)
    images = [painted(*WIDE, (5, 7, 25, 20))] * 30
    runtime = Overlapping([], threading.Event())
    assert len(list(predict(runtime, images, PredictOptions(imgsz=128, verbose=False), callbacks))) == 30
