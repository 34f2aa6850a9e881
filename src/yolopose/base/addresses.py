"""Addresses in messages, files and names: nothing of them that may be a secret.

Shown are scheme, host, port and, where it is the plain name of a file, the last part of the path. User, password,
query, fragment and the rest of the path (stream keys, tokens, signed parameters) are replaced by `***` or `…`.
"""

from __future__ import annotations

import re

# The authority of an address in a text. Odd spellings count: backslashes, one slash, `@` or `/` in a password.
_ADDRESS = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{1,19}):(?:[/\\]{2,})([^\s\"'<>`|]*)")
# One slash is what a path makes of two; without any, there must be a user.
_ODD_SLASHES = re.compile(
    r"(?<![A-Za-z0-9+.-])(https?|ftps?|rtsps?|rtmp[a-z]?|rtp|srt|s3|tcp|udp):"
    r"([/\\](?![/\\])[^\s\"'<>`|]+|(?![/\\])[^\s\"'<>`|]*@[^\s\"'<>`|]*)",
    re.IGNORECASE,
)
# Without a scheme, `user:password@host` is one only where a host with a dot or a port follows.
_BARE_LOGIN = re.compile(r"(?<![\w.:/@-])[\w.%+-]{1,64}:[^\s:/@'\"]{1,128}@(?=[\w-]+(\.[\w-]+)+(:\d+)?(/|\b))")
_STREAM_SCHEMES = frozenset({"rtmp", "rtmpe", "rtmps", "rtmpt", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp"})
_LOCAL_SCHEMES = frozenset({"file", "memory", "screen"})
# Hosts whose paths are public where they have neither a query nor a user.
_PUBLIC_HOSTS = re.compile(
    r"([\w-]+\.)*(github\.com|githubusercontent\.com|github\.io|huggingface\.co|cocodataset\.org"
    r"|readthedocs\.io|pypi\.org|pythonhosted\.org|npmjs\.org|jsdelivr\.net|zenodo\.org"
    r"|openmmlab\.com|googleapis\.com|python\.org|pytorch\.org"
    r"|wikipedia\.org|example\.com|example\.org)",
    re.IGNORECASE,
)
_PLAIN_FILE = re.compile(r"[A-Za-z0-9][\w. -]{0,79}\.[A-Za-z][A-Za-z0-9]{0,9}")
_TOKEN = re.compile(r"[0-9A-Fa-f]{16,}|[A-Za-z0-9]{24,}|[._-]?(pass|pwd|token|secret|key|auth)", re.IGNORECASE)
_CLOSING = ".,;:!?)]}…"


def show_address(address: str) -> str:
    """Return an address without anything that may be secret.

    Args:
        address: such as `https://user:password@host:8080/a/b/weights.pt?key=1`.

    Returns:
        `https://***@host:8080/…/weights.pt?***`; an address of a public host without user and query is returned whole.

    Examples:
        >>> from yolopose.base.addresses import show_address
        >>> show_address("rtmp://live.host.tv/app/stream-key")
        'rtmp://live.host.tv/…'
    """
    match = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*):[/\\]+(.*)", address, re.DOTALL)
    return _show(match[1], match[2].rstrip()) if match else hide_secrets(address)


def hide_secrets(text: str) -> str:
    """Return a text in which every address is shown as by `show_address`."""
    if ":" not in text:  # most texts: an address needs one
        return text
    if "://" in text or ":\\" in text:
        text = _ADDRESS.sub(_hide, text)
    if "@" in text or ":/" in text or ":\\" in text:
        text = _ODD_SLASHES.sub(lambda match: _show(match[1], match[2].lstrip("/\\")), text)
    return _BARE_LOGIN.sub("***@", text) if "@" in text else text


def address_name(address: str) -> str:
    """Return the plain name of a file at the end of an address, or an empty text if it may be a secret."""
    match = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*):[/\\]+([^?#]*)", address)
    if match is None or match[1].lower() in _STREAM_SCHEMES or "/" not in match[2]:
        return ""
    from urllib.parse import unquote

    name = unquote(match[2].rpartition("@")[2].rstrip("/").rpartition("/")[2], errors="replace")
    return name if _is_plain(name) else ""


def address_digest(address: str) -> str:
    """Return the SHA-256 of an address, 64 hexadecimal digits: its key where it must not be readable."""
    import hashlib

    return hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()


def recorded_address(address: str) -> str:
    """Return what a file records of an address: the address if all of it is public, else what is shown and a digest."""
    shown = show_address(address)
    return shown if shown == address else f"{shown} sha256:{address_digest(address)}"


def _hide(match: re.Match[str]) -> str:
    scheme, rest = match[1], match[2]
    if scheme.lower() in _LOCAL_SCHEMES:
        return match[0]
    end = len(rest.rstrip(_CLOSING))  # a full stop or a bracket after an address belongs to the sentence
    return _show(scheme, rest[:end]) + rest[end:]


def _show(scheme: str, rest: str) -> str:
    rest = rest.replace("\\", "/")
    head, query = re.split(r"[?#]", rest, maxsplit=1) if re.search(r"[?#]", rest) else (rest, None)
    # an `@` anywhere belongs to a user: passwords may contain `/`, `?` and `#`
    login, at, _ = rest.rpartition("@")
    if at:
        user = "***@"
        after = rest[len(login) + 1 :]
        head, mark, tail = after.partition("?")
        query = tail if mark else None
    else:
        user = ""
    authority, slash, path = head.partition("/")
    host = _host(authority)
    is_public = _PUBLIC_HOSTS.fullmatch(host.partition(":")[0]) is not None and scheme.lower() not in _STREAM_SCHEMES
    if is_public and not user and query is None:
        return f"{scheme}://{authority}{slash}{path}"
    return f"{scheme}://{user}{host}{_show_path(scheme, slash, path)}{'' if query is None else '?***'}"


def _show_path(scheme: str, slash: str, path: str) -> str:
    parts = [part for part in path.split("/") if part]
    if not parts:
        return slash
    from urllib.parse import unquote  # costs start-up time

    name = unquote(parts[-1], errors="replace")
    if scheme.lower() in _STREAM_SCHEMES or not _is_plain(name):
        return "/…"
    return f"/{name}" if len(parts) == 1 else f"/…/{name}"


def _is_plain(name: str) -> bool:
    return _PLAIN_FILE.fullmatch(name) is not None and _TOKEN.search(name) is None


def _host(authority: str) -> str:
    """Return host and port; other text in their place is hidden."""
    host = authority.partition("/")[0].partition("?")[0]
    return host if re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]*\]|[\w.{}*-]*)(:\d{0,5})?", host) else "***"
