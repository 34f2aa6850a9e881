"""The ASGI application: routes and their handlers."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router, WebSocketRoute
from starlette.types import Receive, Scope, Send

from yolopose.base.log import LOGGER
from yolopose.evaluate.page.build import read_part, render_page
from yolopose.formats.web import page_metadata
from yolopose.serve.access import AccessPolicy, access_policy
from yolopose.serve.errors import RequestError
from yolopose.serve.images import encode_jpeg
from yolopose.serve.models import LoadedModel, OpenRuntime, open_runtime
from yolopose.serve.openapi import describe
from yolopose.serve.protocol_v2 import protocol_routes
from yolopose.serve.service import PoseService, Prediction, pose_values
from yolopose.serve.streaming import StreamEndpoint
from yolopose.serve.web import Body, BodyBudget, Guard, json_response, parse_params, split_body, until_disconnect

if TYPE_CHECKING:
    from yolopose.config import ServeOptions

_OTHERS = ("model", "format", "timeout")
# the page sends requests only to its own server; the camera and dropped files are blobs
_SOURCES = "img-src data: blob:; media-src blob:; connect-src 'self'"
_MODULE_SYNTAX = re.compile(r"^import .*\n|^export ", re.M)
_DRAWING = ("draw", "stage", "sources")  # scripts of the page of format=web
_BODIES = 16  # bodies of the largest size that are in memory at the same time


class PoseApp:
    """ASGI application that answers requests with images; `yolo serve` runs it with uvicorn.

    Args:
        options: options of the server.
        open_file: opens a model file.

    Attributes:
        service: models, queues and metrics.

    Raises:
        UsageError: an impossible option, or a server without API key that others could reach.
        NotFoundError, WeightsError: a model cannot be opened.
    """

    def __init__(self, options: ServeOptions, open_file: OpenRuntime = open_runtime) -> None:
        policy = access_policy(options)
        self.service = PoseService(options, open_file)
        max_body = round(options.max_body_mb * 2**20)
        budget = BodyBudget(max_body, _BODIES * max_body)
        handlers = _Handlers(self.service, policy, budget)
        routes = [
            Route("/predict", handlers.predict, methods=["POST"]),
            Route("/models", handlers.models),
            Route("/healthz", handlers.healthz),
            Route("/readyz", handlers.readyz),
            Route("/metrics", handlers.metrics),
            Route("/openapi.json", handlers.openapi),
            *protocol_routes(self.service, policy, budget),
        ]
        if options.page:
            routes += [Route("/", handlers.page), Route("/docs", handlers.docs)]
        stream = WebSocketRoute("/stream", StreamEndpoint(self.service, policy, budget).__call__)
        router = Router([*routes, stream], redirect_slashes=False, lifespan=self._lifespan)
        paths = frozenset(route.path for route in routes if "{" not in route.path)
        self._app = Guard(router, policy, self.service.metrics, paths, options.verbose)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, stream or lifespan; see the ASGI specification."""
        scope["app"] = self
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncGenerator[None, None]:
        loop = asyncio.get_running_loop()
        has_signal = hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread()
        tasks: set[asyncio.Task[None]] = set()

        def reload() -> None:
            LOGGER.info("SIGHUP: the model files are read again.")
            task = loop.create_task(self.service.reload_all())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        if has_signal:
            loop.add_signal_handler(signal.SIGHUP, reload)
        try:
            yield
        finally:
            if has_signal:
                loop.remove_signal_handler(signal.SIGHUP)
            self.service.close()


class _Handlers:
    """Handlers of all routes but those of the Open Inference Protocol."""

    def __init__(self, service: PoseService, policy: AccessPolicy, budget: BodyBudget) -> None:
        self._service = service
        self._budget = budget
        self._description = describe(service.options, service.store.names, needs_key=bool(policy.keys))
        self._docs = docs_page(self._description)
        self._page = pose_page(needs_key=bool(policy.keys))

    async def predict(self, request: Request) -> Response:
        service = self._service
        query = dict(request.query_params)
        # what is wrong before the body arrives is refused without reading it
        parse_params(query, service.options, _OTHERS)
        service.batcher.check_space(service.store.get(query.get("model")).name)
        async with Body(request, self._budget, service.options.read_timeout) as body:
            is_form = request.headers.get("content-type", "").lower().startswith("multipart/")
            data, fields = await service.run(split_body, request, body) if is_form else split_body(request, body)
            values = parse_params({**query, **fields}, service.options, _OTHERS)
            model = service.store.get(values.pop("model", None))
            kind = _checked_format(values.pop("format", "json"))
            timeout = _checked_timeout(values.pop("timeout", None))
            params = service.defaults(model, values)
            work = service.predict(model, data, params, timeout=timeout)
            prediction = await until_disconnect(request, work)
            if kind == "image":
                image = await until_disconnect(request, service.run(_draw, prediction))
                return Response(image, media_type="image/jpeg")
        return json_response(pose_values(prediction))

    async def models(self, request: Request) -> Response:
        store = self._service.store
        return json_response({"models": [_model_values(store.get(name), self._service) for name in store.names]})

    async def healthz(self, request: Request) -> Response:
        return json_response({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        is_ready = self._service.store.is_ready and not self._service.draining
        return json_response({"status": "ready" if is_ready else "not ready"}, 200 if is_ready else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, request: Request) -> Response:
        return json_response(self._description)

    async def page(self, request: Request) -> Response:
        return _html(self._page)

    async def docs(self, request: Request) -> Response:
        return _html(self._docs)


def _html(page: bytes) -> Response:
    # the page has its policy in a meta element, which cannot forbid frames
    return Response(page, headers={"content-security-policy": "frame-ancestors 'none'"}, media_type="text/html")


def _draw(prediction: Prediction) -> bytes:
    return encode_jpeg(prediction.results.plot())


def _checked_format(text: str) -> str:
    if text not in ("json", "image"):
        raise RequestError(400, "parameter", "format must be json or image.")
    return text


def _checked_timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text[:30])
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise RequestError(400, "parameter", "timeout must be a positive number of seconds.")
    return seconds


def _model_values(model: LoadedModel, service: PoseService) -> dict[str, Any]:
    spec = model.metadata.spec
    params = service.defaults(model)
    drawing = page_metadata(model.metadata, 32, model.name)
    return {
        "name": model.name,
        "version": model.version,
        "sha256": model.digest,
        "classes": spec.names,
        "keypoints": {name: list(spec.keypoints.keypoint_names(index)) for index, name in spec.names.items()},
        "skeleton": [list(edge) for edge in spec.keypoints.skeleton],
        "imgsz": list(params.imgsz),
        "dynamic": model.metadata.dynamic,
        "stride": model.metadata.stride,
        "license": model.metadata.license,
        "defaults": {"conf": params.conf, "iou": params.iou, "max_det": params.max_det},
        "drawing": {key: drawing[key] for key in ("classes", "points", "limbs")},
    }


# -- pages ---------------------------------------------------------------------------------------------------------


def pose_page(*, needs_key: bool) -> bytes:
    """Return the page at `/`.

    Args:
        needs_key: whether it asks for an API key.
    """
    shared = [_MODULE_SYNTAX.sub("", _read("yolopose.formats.web", f"{name}.js")) for name in _DRAWING]
    scripts = [read_part("tools.js"), *shared, _read_own("serve.js")]
    style = read_part("style.css") + _read_own("serve.css")
    return render_page(_read_own("serve.html"), style, scripts, {"needsKey": needs_key}, _SOURCES)


def docs_page(description: dict[str, Any]) -> bytes:
    """Return the page at `/docs`.

    Args:
        description: OpenAPI description.
    """
    scripts = [read_part("tools.js"), _read_own("docs.js")]
    style = read_part("style.css") + _read_own("serve.css")
    return render_page(_read_own("docs.html"), style, scripts, description)


def _read_own(name: str) -> str:
    return _read("yolopose.serve", name)


def _read(package: str, name: str) -> str:
    return (files(package) / "parts" / name).read_text(encoding="utf-8")
