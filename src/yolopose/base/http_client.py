"""HTTP requests to servers that may be hostile: limits on headers, rate and time, and on where redirects lead."""

from __future__ import annotations

import base64
import http.client
import io
import ssl
import time
import urllib.request
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from yolopose._version import __version__
from yolopose.base.errors import DownloadError

MIN_RATE = 1_000
"""Bytes per second that a server must send, on average over `RATE_SECONDS`."""
RATE_SECONDS = 60.0
MAX_SECONDS = 24 * 3600.0
"""Longest time of one answer."""
_MAX_HEADER_BYTES = 1 << 20  # of all interim answers and the headers
_RAW = "%/:=&?~+!$,;'@()*"  # characters that stay as they are in a path or query


class SlowServerError(OSError):
    """A server sends less than `MIN_RATE`, or longer than `MAX_SECONDS`; another attempt would not be faster."""


def open_address(address: str, timeout: float, headers: dict[str, str] | None = None) -> Any:
    """Open an http(s) address. Proxies of the environment are used.

    A user and password in the address are sent to its host as Basic authentication, and never to another host.

    Args:
        address: letters that an address may not contain are encoded as browsers do.
        timeout: longest time without a byte, seconds.
        headers: additional headers.

    Returns:
        The response of `urllib.request`, whose body is read under the same limits.

    Raises:
        DownloadError: it is not a valid http(s) address, or redirects to another scheme.
        OSError, http.client.HTTPException: the request fails.
    """
    target, login = _split_login(address)
    try:
        sent = {"User-Agent": f"yolopose/{__version__}", **(headers or {})}
        request = urllib.request.Request(target, headers=sent)  # noqa: S310  # the scheme has been checked
        if login:
            request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        return _opener().open(request, timeout=timeout)
    except (ValueError, http.client.InvalidURL) as error:  # a name of a host with labels of more than 63 letters
        raise _invalid(address) from error


def _split_login(address: str) -> tuple[str, str]:
    """Return the address without user and password, encoded as the protocol needs it, and `user:password`."""
    try:
        parts = urlsplit(address.strip())
        host = (parts.hostname or "").encode("ascii" if (parts.hostname or "").isascii() else "idna").decode()
        port = parts.port
    except ValueError as error:
        raise _invalid(address) from error
    if parts.scheme.lower() not in ("http", "https") or not host or any(not 33 <= ord(letter) < 127 for letter in host):
        raise _invalid(address)
    login = ""
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    try:
        path, query = (quote(part, safe=_RAW) for part in (parts.path, parts.query))
    except UnicodeEncodeError as error:  # lone surrogates
        raise _invalid(address) from error
    return urlunsplit((parts.scheme.lower(), netloc, path, query, "")), login


def _invalid(address: str) -> DownloadError:
    from yolopose.base.addresses import show_address

    return DownloadError(f"{show_address(address)!r} is not a valid http or https address; only these are downloaded.")


class _Metered(io.RawIOBase):
    """The bytes of a connection, counted while they arrive."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._start = self._window_start = time.monotonic()
        self._window_count = 0
        self.header_bytes: int | None = 0  # None after the headers

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._check()
        count = self._raw.readinto(buffer)
        self._window_count += count or 0
        if self.header_bytes is not None:
            total = self.header_bytes + (count or 0)
            self.header_bytes = total
            if total > _MAX_HEADER_BYTES:
                raise SlowServerError(f"the server sends more than {_MAX_HEADER_BYTES} bytes of headers")
        return count

    def _check(self) -> None:
        now = time.monotonic()
        if now - self._start > MAX_SECONDS:
            raise SlowServerError(f"the transfer took more than {MAX_SECONDS / 3600:.3g} hours")
        if now - self._window_start >= RATE_SECONDS:
            rate = self._window_count / (now - self._window_start)
            if rate < MIN_RATE:
                raise SlowServerError(f"the server sends {rate:.0f} bytes per second; at least {MIN_RATE} are needed")
            self._window_start = now
            self._window_count = 0

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._meter = _Metered(self.fp.detach())
        self.fp = io.BufferedReader(self._meter)

    def begin(self) -> None:
        super().begin()
        self._meter.header_bytes = None


class _HttpConnection(http.client.HTTPConnection):
    response_class = _Response


class _HttpsConnection(http.client.HTTPSConnection):
    response_class = _Response


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(_HttpConnection, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self) -> None:
        self._tls = ssl.create_default_context()
        super().__init__(context=self._tls)

    def https_open(self, req: Any) -> Any:
        return self.do_open(_HttpsConnection, req, context=self._tls)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects only to http(s), and never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        try:
            target, login = _split_login(newurl)
        except DownloadError:
            target, login = newurl, ""
        old = urlsplit(req.full_url).scheme
        new = target.partition(":")[0].lower()
        if new not in ("http", "https") or (old == "https" and new == "http") or login:
            raise DownloadError(
                f"{req.full_url} redirects to {newurl}, which is not followed: only https, or http to http, and "
                "without user and password."
            )
        return super().redirect_request(req, fp, code, msg, headers, target)


_OPENERS: list[urllib.request.OpenerDirector] = []


def _opener() -> urllib.request.OpenerDirector:
    if not _OPENERS:  # also honors the proxy variables of the environment
        _OPENERS.append(urllib.request.build_opener(_HttpHandler, _HttpsHandler, _SafeRedirects))
    return _OPENERS[0]
