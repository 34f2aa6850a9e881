"""HTTP server for pose models: `yolo serve`; needs the extra `serve`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from yolopose.base.errors import DependencyError
from yolopose.config import ServeOptions

if TYPE_CHECKING:
    from yolopose.serve.app import PoseApp

__all__ = ["create_app", "serve"]

_PACKAGES = ("starlette", "uvicorn", "python_multipart", "websockets", "prometheus_client")


def _require() -> None:
    for package in _PACKAGES:
        try:
            import_module(package)
        except ImportError as error:
            raise DependencyError(
                f"The server needs {package}, which is not installed: `pip install 'yolopose[serve]'`."
            ) from error


def serve(options: ServeOptions) -> None:
    """Serve models over HTTP until the process is asked to stop; see `yolopose.serve.server.serve`.

    Raises:
        DependencyError: the packages of the extra `serve` are not installed.
    """
    _require()
    from yolopose.serve.server import serve as run

    run(options)


def create_app(**options: Any) -> PoseApp:
    """Return the ASGI application of a server, to run it in another ASGI server or mount it in an application.

    Args:
        **options: options of `yolo serve`, such as `model="yolo11n-pose.onnx"`; `yolo help serve` lists them.

    Raises:
        DependencyError: the packages of the extra `serve` are not installed.
        UsageError: an unknown or impossible option.
        NotFoundError, WeightsError: a model cannot be opened.
    """
    _require()
    from typing import cast

    from yolopose.config import make_options
    from yolopose.serve.app import PoseApp

    return PoseApp(cast(ServeOptions, make_options("serve", options)))
