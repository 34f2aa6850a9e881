"""WebSocket `/stream`: frames of one client in, poses with track ids and smoothing out.

The client sends each frame as a binary message, the contents of an image file, and receives one JSON text for each, in
order. A JSON text of the client changes settings from the next frame on.
"""

from __future__ import annotations

import asyncio
import json
from time import perf_counter
from typing import Any, cast

from starlette.websockets import WebSocket, WebSocketDisconnect

from yolopose.base.errors import DependencyError, UsageError
from yolopose.results import Results
from yolopose.serve.access import AccessPolicy
from yolopose.serve.errors import RequestError
from yolopose.serve.models import LoadedModel, PredictParams
from yolopose.serve.service import PoseService, Prediction, pose_values
from yolopose.serve.web import BodyBudget, parse_params
from yolopose.track import StreamTrackers
from yolopose.zoo import tracker_yaml_names

_TRACKERS = tuple(name.removesuffix(".yaml") for name in tracker_yaml_names())
_MAX_SETTINGS = 16_384  # bytes of a text message
_IDLE = 120.0  # seconds without a message after which a stream is closed
_POLICY, _TOO_LARGE, _TRY_LATER = 1008, 1009, 1013  # codes of RFC 6455 and its registry


class Stream:
    """One open stream: its settings and its tracker."""

    def __init__(self, service: PoseService) -> None:
        self._service = service
        self.model: LoadedModel = service.store.get()
        self._values: dict[str, Any] = {}
        self._tracker_name = tracker_name(service.options.tracker)
        self._switches = {"track": True, "smooth": True}
        self._trackers: StreamTrackers | None = None
        self._started = perf_counter()
        self._time: float | None = None
        self._number = 0

    def configure(self, settings: dict[str, Any]) -> None:
        """Apply a settings message; changing the tracker or the model starts new tracks.

        Raises:
            RequestError: an unknown setting or an impossible value.
        """
        settings = {name: value for name, value in settings.items() if name != "key"}
        if "time" in settings:
            self._time = _number(settings.pop("time"), "time")
        reset = bool(settings.pop("reset", False))
        if "tracker" in settings:
            self._tracker_name = tracker_name(settings.pop("tracker"))
            reset = True
        for name, current in self._switches.items():
            value = settings.pop(name, current)
            if not isinstance(value, bool):
                raise RequestError(400, "parameter", f"{name} must be true or false.")
            reset = reset or value != current
            self._switches[name] = value
        if "model" in settings:
            self.model = self._service.store.get(str(settings.pop("model")))
            reset = True
        texts = {
            str(name): ",".join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in settings.items()
        }
        self._values |= parse_params(texts, self._service.options)
        if reset:
            self._trackers = None

    def params(self) -> PredictParams:
        """Return the parameters of the next frame; by default all detections that the tracker uses."""
        self.model = self._service.store.get(self.model.name)  # it may have been replaced
        values = dict(self._values)
        if self._switches["track"]:
            values.setdefault("conf", self._tracker().min_score)
        return self._service.defaults(self.model, values)

    def _tracker(self) -> StreamTrackers:
        if self._trackers is None:
            sigmas = self.model.metadata.spec.keypoints.oks_sigmas
            self._trackers = StreamTrackers(f"{self._tracker_name}.yaml", sigmas, smooth=self._switches["smooth"])
        return self._trackers

    @property
    def needs_image(self) -> bool:
        """Whether the tracker compares pixels (camera motion)."""
        return self._switches["track"] and self._tracker_name == "botsort"

    def finish(self, prediction: Prediction) -> bytes:
        """Add track ids to a result, and return it as JSON."""
        self._number += 1
        if self._switches["track"]:
            start = perf_counter()
            self._track(prediction.results)
            prediction.times["track"] = 1000 * (perf_counter() - start)
        values = {"frame": self._number, **pose_values(prediction)}
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()

    def _track(self, results: Results) -> None:
        time = perf_counter() - self._started if self._time is None else self._time
        self._time = None
        self._tracker().track(results, lambda array: cast(Any, array), time)


def tracker_name(value: object) -> str:
    """Return the name of a shipped tracker; a client cannot name a file.

    Raises:
        RequestError: the tracker is unknown.
    """
    name = value.removesuffix(".yaml") if isinstance(value, str) else ""
    if name not in _TRACKERS:
        raise RequestError(400, "parameter", f"tracker must be one of {', '.join(_TRACKERS)}.")
    return name


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise RequestError(400, "parameter", f"{name} must be a number of seconds from 0.")
    return float(value)


class StreamEndpoint:
    """Handler of `/stream`.

    Args:
        service: models and queues.
        policy: who may use the server.
        budget: memory of all bodies and frames.
    """

    def __init__(self, service: PoseService, policy: AccessPolicy, budget: BodyBudget) -> None:
        self._service = service
        self._policy = policy
        self._budget = budget
        self._open = 0
        try:
            tracker_name(service.options.tracker)
        except RequestError as error:
            raise UsageError(f"tracker={service.options.tracker!r} is not possible: {error}") from error

    async def __call__(self, websocket: WebSocket) -> None:
        """Answer the frames of one client until it leaves."""
        try:
            self._policy.check_host(websocket.headers)
            self._policy.check_origin(websocket.headers)
        except RequestError:
            await websocket.close(_POLICY)  # answered with 403, since the handshake is not complete
            return
        await websocket.accept()
        if self._open >= self._service.options.streams:
            await _refuse(websocket, RequestError(429, "streams", "Too many streams are open."), _TRY_LATER)
            return
        self._open += 1
        self._service.metrics.streams.inc()
        try:
            await self._run(websocket)
        except (WebSocketDisconnect, RuntimeError):  # RuntimeError: the client closed while a reply was being sent
            pass
        finally:
            self._open -= 1
            self._service.metrics.streams.dec()

    async def _run(self, websocket: WebSocket) -> None:
        stream = Stream(self._service)
        is_allowed = not self._policy.keys
        while True:
            try:
                limit = _IDLE if is_allowed else self._service.options.read_timeout
                message = await asyncio.wait_for(websocket.receive(), limit)
            except (asyncio.TimeoutError, TimeoutError):
                await _refuse(websocket, RequestError(408, "idle", "No message was received in time."), _POLICY)
                return
            if message["type"] == "websocket.disconnect":
                return
            text, frame = message.get("text"), message.get("bytes")
            try:
                if text is not None:
                    settings = _parse_settings(text)
                    if not is_allowed:
                        self._check_key(websocket, settings)
                        is_allowed = True
                    stream.configure(settings)
                    continue
                if not is_allowed:
                    self._check_key(websocket, {})
                    is_allowed = True
                reply = await self._answer(stream, frame or b"")
            except RequestError as error:
                if error.status == 401:
                    await _refuse(websocket, error, _POLICY)
                    return
                reply = _error_text(error)
            except DependencyError as error:
                reply = _error_text(
                    RequestError(501, "no_tracker", f'{error} Or send the settings {{"track": false}}.')
                )
            await asyncio.wait_for(websocket.send_text(reply.decode()), self._service.options.read_timeout)

    def _check_key(self, websocket: WebSocket, settings: dict[str, Any]) -> None:
        key = settings.get("key")
        self._policy.check_key(websocket.headers, key if isinstance(key, str) else None)

    async def _answer(self, stream: Stream, frame: bytes) -> bytes:
        if len(frame) > self._budget.max_body:
            raise RequestError(413, "body_too_large", "The frame is too large.")
        self._budget.reserve(len(frame))
        try:
            params = stream.params()
            prediction = await self._service.predict(stream.model, frame, params, keep_image=stream.needs_image)
            return await self._service.run(stream.finish, prediction)
        finally:
            self._budget.release(len(frame))


def _parse_settings(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text) if len(text) <= _MAX_SETTINGS else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise RequestError(400, "settings", 'A text message must be a JSON object of settings, such as {"conf": 0.4}.')
    return cast("dict[str, Any]", values)


def _error_text(error: RequestError) -> bytes:
    return json.dumps({"error": {"code": error.code, "message": error.message}}).encode()


async def _refuse(websocket: WebSocket, error: RequestError, code: int) -> None:
    await websocket.send_text(_error_text(error).decode())
    await websocket.close(code)
