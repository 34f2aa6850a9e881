"""Requests and responses: reading bodies within limits, checking parameters, errors as JSON."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import FormParser, parse_options_header
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.base.log import LOGGER
from yolopose.config import option_specs
from yolopose.config.check import check_value
from yolopose.config.table import find_synonyms
from yolopose.results.tables import to_json
from yolopose.serve.access import AccessPolicy
from yolopose.serve.errors import RequestError

if TYPE_CHECKING:
    from python_multipart.multipart import Field, File

    from yolopose.config import ServeOptions
    from yolopose.serve.service import Metrics

T = TypeVar("T")
PREDICT_PARAMS = ("conf", "iou", "max_det", "imgsz", "classes", "agnostic_nms")
MAX_HEADER_BYTES = 16_384
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 4096
_NO_IMAGE_TYPES = ("application/json", "application/x-www-form-urlencoded", "text/")
_FREE_PATHS = ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}


def json_response(values: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return plain values as JSON; NaN and infinity become null."""
    try:
        text = json.dumps(values, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except ValueError:
        text = to_json(values)
    return Response(text.encode(), status, headers, "application/json")


def error_response(error: RequestError, path: str) -> Response:
    """Return an error as JSON; below `/v2` in the form of the Open Inference Protocol."""
    is_protocol = path == "/v2" or path.startswith("/v2/")
    values = {"error": error.message} if is_protocol else {"error": {"code": error.code, "message": error.message}}
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_response(values, error.status, headers)


# -- bodies -------------------------------------------------------------------------------------------------------


class BodyBudget:
    """Memory of all bodies that are being read or waiting.

    Args:
        max_body: largest body, bytes.
        total: largest sum of all bodies, bytes.
    """

    def __init__(self, max_body: int, total: int) -> None:
        self.max_body = max_body
        self._total = max(total, max_body)
        self._used = 0

    def reserve(self, size: int) -> None:
        """Reserve memory.

        Raises:
            RequestError: the bodies of other requests use too much.
        """
        if self._used + size > self._total:
            raise RequestError(
                429, "busy", "The server is receiving too much data at once. Try again later.", retry_after=1
            )
        self._used += size

    def release(self, size: int) -> None:
        """Give back reserved memory."""
        self._used -= size


class Body:
    """The body of a request in memory; its memory is given back at the end of the block.

    Args:
        request: the request.
        budget: memory of all bodies.
        seconds: time within which the client must send it.
    """

    def __init__(self, request: Request, budget: BodyBudget, seconds: float) -> None:
        self._request = request
        self._budget = budget
        self._seconds = seconds
        self._reserved = 0

    async def __aenter__(self) -> bytes:
        try:
            return await self._read()
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        self._budget.release(self._reserved)
        self._reserved = 0

    def _reserve(self, size: int) -> None:
        if size > self._budget.max_body:
            raise RequestError(
                413,
                "body_too_large",
                f"The body is larger than {self._budget.max_body / 2**20:g} MiB. Send a smaller image.",
            )
        if size > self._reserved:
            self._budget.reserve(size - self._reserved)
            self._reserved = size

    async def _read(self) -> bytes:
        headers = self._request.headers
        if headers.get("content-encoding", "identity").lower() not in ("identity", ""):
            raise RequestError(415, "encoding", "Compressed bodies are not accepted: omit Content-Encoding.")
        length = headers.get("content-length", "")
        if length and "transfer-encoding" in headers:  # proxies may disagree on where such a request ends
            raise RequestError(400, "framing", "Content-Length and Transfer-Encoding must not be given together.")
        if length.isascii() and length.isdecimal():
            self._reserve(int(length[:20]))
        parts = bytearray()
        try:
            with anyio.fail_after(self._seconds):
                async for chunk in self._request.stream():
                    self._reserve(len(parts) + len(chunk))
                    parts += chunk
        except TimeoutError:
            raise RequestError(
                408, "slow_request", f"The body was not received within {self._seconds:g} seconds."
            ) from None
        return bytes(parts)


async def until_disconnect(request: Request, work: Awaitable[T]) -> T:
    """Await some work, and cancel it when the client closes the connection.

    Raises:
        ClientDisconnect: the client has gone.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_disconnect(request.receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()


async def _wait_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def parse_form(content_type: str, body: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the only file of a multipart form, and its fields; all in memory.

    Raises:
        RequestError: it is damaged, or does not have exactly one file.
    """
    files: list[File] = []
    fields: dict[str, str] = {}

    def add_field(field: Field) -> None:
        if len(fields) >= _MAX_FIELDS or len(field.value or b"") > _MAX_FIELD_BYTES:
            raise RequestError(400, "damaged_form", f"The form has more than {_MAX_FIELDS} fields, or a large one.")
        fields[(field.field_name or b"").decode("utf-8", "replace")] = (field.value or b"").decode("utf-8", "replace")

    kind, parameters = parse_options_header(content_type)
    config = {
        "MAX_BODY_SIZE": len(body),
        "MAX_MEMORY_FILE_SIZE": len(body) + 1,  # never written to the disk
    }
    try:
        parser = FormParser(kind.decode(), add_field, files.append, boundary=parameters.get(b"boundary"), config=config)
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise RequestError(400, "damaged_form", "The multipart form is damaged or cut short.") from error
    try:
        if len(files) != 1:
            raise RequestError(
                400, "no_file", f"The form has {len(files)} files: send one image as the file of a field, such as file."
            )
        files[0].file_object.seek(0)
        return files[0].file_object.read(), fields
    finally:
        for file in files:
            file.close()


def split_body(request: Request, body: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the image in the body of a request, and the fields of its form.

    Raises:
        RequestError: the body has another type.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return parse_form(content_type, body)
    if kind.startswith(_NO_IMAGE_TYPES):
        raise RequestError(
            415,
            "content_type",
            "The body must be the bytes of an image (Content-Type: image/jpeg), or multipart/form-data with one file.",
        )
    return body, {}


# -- parameters ---------------------------------------------------------------------------------------------------


def parse_params(given: Mapping[str, str], options: ServeOptions, others: tuple[str, ...] = ()) -> dict[str, Any]:
    """Check the parameters of a request.

    Args:
        given: texts by name.
        options: options of the server, which limit some values.
        others: names of further parameters, returned as text.

    Returns:
        Values by name; `imgsz` is one number or a list, `classes` a tuple, `agnostic_nms` has the name `agnostic`.

    Raises:
        RequestError: an unknown parameter or an impossible value.
    """
    specs = option_specs("serve")
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name in others:
            values[name] = text
        elif name in PREDICT_PARAMS:
            try:
                values[name] = check_value(specs[name], _plain(text))
            except UsageError as error:
                raise RequestError(400, "parameter", str(error)) from error
        else:
            known = [option for option in find_synonyms(name, "serve") if option in PREDICT_PARAMS]
            hint = f" Did you mean {known[0]!r}?" if known else did_you_mean(name, (*PREDICT_PARAMS, *others))
            raise RequestError(400, "parameter", f"Unknown parameter {name[:40]!r}.{hint}")
    return _limit(values, options)


def _limit(values: dict[str, Any], options: ServeOptions) -> dict[str, Any]:
    sides = values.get("imgsz")
    if sides is not None and max([sides] if isinstance(sides, int) else sides) > options.max_imgsz:
        raise RequestError(400, "parameter", f"imgsz is larger than {options.max_imgsz}, the limit of this server.")
    if values.get("max_det", 0) > options.max_det:
        raise RequestError(400, "parameter", f"max_det is larger than {options.max_det}, the limit of this server.")
    if values.get("classes") is not None:
        classes = values["classes"]
        values["classes"] = (classes,) if isinstance(classes, int) else tuple(classes)
    if "agnostic_nms" in values:
        values["agnostic"] = values.pop("agnostic_nms")
    return {name: value for name, value in values.items() if value is not None}


def _plain(text: str) -> Any:
    """Return a number, a list of numbers, a truth value, or the text."""
    parts = text.strip().strip("[]()").split(",")
    if len(parts) > 1:
        return [_plain(part) for part in parts]
    word = parts[0].strip()
    lowered = word.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    for kind in (int, float):
        try:
            return kind(word[:30])
        except ValueError:
            continue
    return word[:100]


# -- middleware ---------------------------------------------------------------------------------------------------


class Guard:
    """Checks every request before its handler, adds headers to responses, and turns all errors into JSON.

    Args:
        app: the application.
        policy: who may use the server.
        metrics: counters.
        paths: paths of the routes; others are counted as one.
        verbose: whether to log a line for each request.
    """

    def __init__(
        self, app: ASGIApp, policy: AccessPolicy, metrics: Metrics, paths: frozenset[str], verbose: bool
    ) -> None:
        self._app = app
        self._policy = policy
        self._metrics = metrics
        self._paths = paths
        self._verbose = verbose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, let the application answer it, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)  # streams check access themselves
            return
        request = Request(scope, receive)
        path = scope["path"]
        origin = self._allowed_origin(request)
        status = 0
        started = perf_counter()

        async def respond(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if origin:
                    headers["access-control-allow-origin"] = origin
                    headers["cross-origin-resource-policy"] = "cross-origin"
                    headers.add_vary_header("Origin")
            await send(message)

        try:
            response = await self._refuse(request)
            if response is None:
                await self._app(scope, receive, respond)
            else:
                await response(scope, receive, respond)
        except ClientDisconnect:
            status = 499  # as nginx counts clients that close the connection before the response
        except Exception as error:
            if status:
                raise
            await self._answer_error(error, path)(scope, receive, respond)
        finally:
            self._record(scope, status, perf_counter() - started)

    async def _refuse(self, request: Request) -> Response | None:
        """Return the response to a request that may not reach its handler."""
        try:
            if sum(len(name) + len(value) + 4 for name, value in request.headers.raw) > MAX_HEADER_BYTES:
                raise RequestError(431, "headers", f"The headers are larger than {MAX_HEADER_BYTES} bytes.")
            self._policy.check_host(request.headers)
            if request.method == "OPTIONS" and request.headers.get("access-control-request-method"):
                return self._preflight(request)
            if request.method not in ("GET", "HEAD"):
                self._policy.check_origin(request.headers)
            path = request.url.path if request.scope["path"] != "" else "/"
            if path not in _FREE_PATHS and not path.startswith("/v2/repository/models/"):
                self._policy.check_key(request.headers)
        except RequestError as error:
            return error_response(error, request.scope["path"])
        return None

    def _allowed_origin(self, request: Request) -> str:
        origin = request.headers.get("origin", "")
        return origin if origin.lower() in self._policy.origins else ""

    def _preflight(self, request: Request) -> Response:
        if not self._allowed_origin(request):
            raise RequestError(403, "other_origin", "Pages of this origin may not use the server.")
        return Response(
            status_code=204,
            headers={
                "access-control-allow-methods": "GET, POST",
                "access-control-allow-headers": "authorization, content-type, x-api-key, "
                "inference-header-content-length",
                "access-control-max-age": "600",
            },
        )

    def _answer_error(self, error: Exception, path: str) -> Response:
        if isinstance(error, RequestError):
            return error_response(error, path)
        if isinstance(error, HTTPException):  # of the router: an unknown path or method
            text = "There is nothing at this path." if error.status_code == 404 else "The path has other methods."
            code = "not_found" if error.status_code == 404 else "method"
            return error_response(RequestError(error.status_code, code, f"{text} See /docs."), path)
        number = secrets.token_hex(4)
        LOGGER.error(f"Error {number} in a request to {path[:100]}", exc_info=error)
        message = f"An error occurred in the server. Its log has the details under the number {number}."
        return error_response(RequestError(500, "internal", message), path)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", None) or (scope["path"] if scope["path"] in self._paths else "other")
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        if self._verbose:
            client = scope.get("client") or ("-", 0)
            LOGGER.info(f"{client[0]} {scope['method']} {scope['path'][:200]} {status} {1000 * seconds:.1f}ms")
