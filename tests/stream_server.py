"""Answers of a camera that speaks MJPEG over HTTP, well or badly; frames are gray, `SHADES` apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from servers import Answer, Handler

SHADES = 4


def jpeg(number: int) -> bytes:
    return cv2.imencode(".jpg", np.full((48, 64, 3), (number * SHADES) % 256, np.uint8))[1].tobytes()


def number_of(image: np.ndarray) -> int:
    """Which frame an image is."""
    return round(float(image.mean()) / SHADES)


def part(content: bytes) -> bytes:
    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content + b"\r\n"


def head(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    handler.end_headers()


Fault = Callable[[Handler], None]


def stream(numbers: Sequence[int], fault: Fault | None = None, pause: float = 0.005) -> Answer:
    """Send some frames, then does what is wrong with it, and closes."""

    def answer(handler: Handler) -> None:
        try:
            head(handler)
            for number in numbers:
                handler.wfile.write(part(jpeg(number)))
                handler.wfile.flush()
                time.sleep(pause)
            if fault is not None:
                fault(handler)
        except OSError:  # nobody listens any more
            return

    return answer


def stream_images(images: Sequence[np.ndarray]) -> Answer:
    """Send the given images, and close."""

    def answer(handler: Handler) -> None:
        head(handler)
        for image in images:
            handler.wfile.write(part(cv2.imencode(".jpg", image)[1].tobytes()))
            handler.wfile.flush()
            time.sleep(0.005)

    return answer


def mid_frame(handler: Handler) -> None:
    handler.wfile.write(part(jpeg(60))[:200])


def rubbish(handler: Handler) -> None:
    handler.wfile.write(np.random.default_rng(0).bytes(5000))
    for number in range(60, 63):
        handler.wfile.write(part(jpeg(number)))


def stall(handler: Handler) -> None:
    handler.wfile.flush()
    time.sleep(2.5)


def in_turn(*answers: Answer) -> Answer:
    """Another answer to each request; the last one again and again."""
    left = list(answers)

    def answer(handler: Handler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def refused(code: int) -> Answer:
    return lambda handler: handler.send(code, b"no")


def page(handler: Handler) -> None:
    handler.send(200, b"<html>log in</html>", Content_Type="text/html; charset=utf-8")
