"""Who may use the server: API keys, names under which it is reached, origins of web pages."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolopose.base.errors import NotFoundError, UsageError
from yolopose.base.files import read_regular
from yolopose.serve.errors import RequestError

if TYPE_CHECKING:
    from yolopose.config import ServeOptions

API_KEY_VARIABLE = "YOLOPOSE_API_KEY"
ADMIN_KEY_VARIABLE = "YOLOPOSE_ADMIN_KEY"
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_MIN_KEY = 16  # characters
_MAX_KEY_FILE = 1 << 20  # bytes
_DEFAULT_PORTS = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443"}


class KeySet:
    """API keys, stored as hashes; a key is compared with all of them in the same time.

    Args:
        keys: the keys; may be empty.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __contains__(self, key: str) -> bool:
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def read_keys(file: str | None, variable: str) -> KeySet:
    """Return the keys of a file, one a line (`#` starts a comment), and of an environment variable.

    Raises:
        NotFoundError: the file does not exist.
        UsageError: it cannot be read, has no key, or a key is short.
    """
    keys = [os.environ[variable].strip()] if os.environ.get(variable, "").strip() else []
    if file is not None:
        lines = [line.strip() for line in _read(Path(file)).splitlines()]
        keys += [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise UsageError(f"{file} has no API key. Write one a line, such as the output of `openssl rand -hex 32`.")
    if any(len(key) < _MIN_KEY for key in keys):
        raise UsageError(
            f"An API key has fewer than {_MIN_KEY} characters and could be guessed. Use the output of "
            "`openssl rand -hex 32`, for example."
        )
    return KeySet(keys)


def _read(path: Path) -> str:
    try:
        return read_regular(path, _MAX_KEY_FILE).decode()
    except FileNotFoundError as error:
        raise NotFoundError(f"The file of API keys {path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The file of API keys {path} cannot be read as UTF-8 text: {error}") from error


def is_local(host: str) -> bool:
    """Return whether an address to listen on is reached only from this computer."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Rules for requests.

    Attributes:
        keys: keys of clients; without any, none is required.
        admin_keys: keys of administrators; without any, models cannot be replaced over HTTP.
        names: names under which the server may be reached; None for any. A web page whose name an attacker resolves
            to this computer (DNS rebinding) sends another name.
        origins: origins of web pages that may use the server besides its own.
    """

    keys: KeySet
    admin_keys: KeySet
    names: frozenset[str] | None
    origins: frozenset[str]

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Check the name under which the server was reached.

        Raises:
            RequestError: it is not one of the names.
        """
        if self.names is None:
            return
        name = headers.get("host", "").lower()
        name = name if name.endswith("]") else name.rpartition(":")[0] or name
        if name not in self.names:
            raise RequestError(
                421, "unknown_host", "The server does not answer under this name. Start it with hosts=NAME to allow it."
            )

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Check that a request is not sent by the page of another web site.

        Raises:
            RequestError: it is.
        """
        origin = headers.get("origin")
        if origin is None or origin.lower() in self.origins:
            return
        scheme, _, address = origin.lower().partition("://")
        port = _DEFAULT_PORTS.get(scheme, "")
        if not address or address.removesuffix(port) != headers.get("host", "").lower().removesuffix(port):
            raise RequestError(
                403,
                "other_origin",
                "Pages of other web sites may not use the server. Start it with origins=… to allow it.",
            )

    def check_key(self, headers: Mapping[str, str], key: str | None = None) -> None:
        """Check the API key of a request: `Authorization: Bearer KEY`, `X-API-Key: KEY`, or the given one.

        Raises:
            RequestError: it is missing or wrong.
        """
        if self.keys and (key or request_key(headers)) not in self.keys:
            raise RequestError(401, "unauthorized", "The API key is missing or wrong: send Authorization: Bearer KEY.")

    def check_admin(self, headers: Mapping[str, str]) -> None:
        """Check the key of an administrator.

        Raises:
            RequestError: it is missing or wrong, or the server has none.
        """
        if not self.admin_keys:
            raise RequestError(403, "no_admin", "Models cannot be replaced over HTTP: the server has no admin key.")
        if request_key(headers) not in self.admin_keys:
            raise RequestError(
                401, "unauthorized", "The admin key is missing or wrong: send Authorization: Bearer KEY."
            )


def request_key(headers: Mapping[str, str]) -> str:
    """Return the key in the headers of a request; empty without one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()


def access_policy(options: ServeOptions) -> AccessPolicy:
    """Return the rules of a server.

    Raises:
        UsageError: it would listen on other addresses than this computer without a key.
        NotFoundError: a file of keys does not exist.
    """
    keys = read_keys(options.api_key_file, API_KEY_VARIABLE)
    local = is_local(options.host)
    if not local and not keys and not options.insecure:
        raise UsageError(
            f"host={options.host} can be reached from other computers, and no API key is set: anyone could use the "
            f"server. Set {API_KEY_VARIABLE} or api_key_file=keys.txt; insecure=True serves without a key."
        )
    names = None if keys or options.insecure else frozenset((*_LOCAL_NAMES, *_list(options.hosts)))
    return AccessPolicy(
        keys=keys,
        admin_keys=read_keys(options.admin_key_file, ADMIN_KEY_VARIABLE),
        names=names,
        origins=frozenset(origin.rstrip("/") for origin in _list(options.origins)),
    )


def _list(text: str | None) -> list[str]:
    return [part.strip().lower() for part in (text or "").split(",") if part.strip()]
