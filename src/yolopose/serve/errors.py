"""Errors that are answered to clients."""

from __future__ import annotations


class RequestError(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        code: name of the error for programs, such as `image_too_large`.
        message: what is wrong and how to fix it; without paths and internals of the server.
        retry_after: seconds after which the request may succeed; None where repeating it does not help.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
