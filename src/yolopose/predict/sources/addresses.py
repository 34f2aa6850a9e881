"""Addresses: what stands at one, how it is shown without its passwords, and what is fetched."""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from yolopose._version import __version__
from yolopose.base.download import DownloadSpec, download, verify_checksum
from yolopose.base.errors import SourceError
from yolopose.base.settings import load_settings
from yolopose.data.images import IMAGE_SUFFIXES, read_image
from yolopose.predict.items import Entry, Item
from yolopose.predict.sources.captures import Refused, open_stream
from yolopose.predict.sources.parts import VIDEO_SUFFIXES, Feed, Part, Patience, Video

_IMAGE_LIMIT = 500_000_000  # bytes
_VIDEO_LIMIT = 8_000_000_000
_ASKING = 10.0  # seconds that a server has to say what it gives

_STREAMS = frozenset({"rtmp", "rtmps", "rtmpt", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp"})
_LIVE_SUFFIXES = frozenset({".m3u8", ".mjpeg", ".mjpg", ".mpd", ".sdp"})
_YOUTUBE = re.compile(r"(.+\.)?(youtube\.com|youtu\.be|youtube-nocookie\.com)$", re.IGNORECASE)
# keys of a query whose values are nobody's business
_SECRET = re.compile(r"((?:^|[?&])[^=&]*(?:pass|pwd|psw|token|key|auth|secret|sig|user|usr|login)[^=&]*=)[^&]*", re.I)


def is_url(text: str) -> bool:
    """Whether a text is `scheme://…` of any kind."""
    return re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE) is not None


def open_address(text: str) -> Part:
    """Return what stands at an address.

    http(s) addresses of images and of finished videos are fetched when their turn comes, once, and kept. An address
    that does not end like one of them is asked what it gives.

    Raises:
        SourceError: a page of YouTube, a scheme that is not read, nothing there, or a web page.
    """
    url = text.strip()
    try:
        address = urlsplit(url)
        host = address.hostname or ""
    except ValueError as error:
        raise SourceError(f"The source is no usable address ({error}).") from error
    scheme = address.scheme.lower()
    if _YOUTUBE.match(host):
        raise SourceError(
            f"Pages of YouTube are not read ({shown(url)}). Download the video first, for example with "
            f"`yt-dlp -o video.mp4 ADDRESS`, and give the file: source=video.mp4"
        )
    if scheme in _STREAMS:
        return feed_of(url)
    if scheme not in ("http", "https") or not host:
        raise SourceError(
            f"The address {shown(url)} is not read: known are http, https, {', '.join(sorted(_STREAMS))}. Fetch what "
            "stands there in another way, and give the file."
        )
    kind = _kind(url, address)
    if kind == "live":
        return feed_of(url)
    if "@" in address.netloc:
        raise SourceError(
            f"What stands at {shown(url)} is not fetched: user and password in an address are used for streams alone. "
            "Download it in another way, and give the file."
        )
    if kind == "video":
        return Video(_file_name(url, "video"), partial(_fetch, url, "video"))
    return Entry(_file_name(url, "image"), partial(_read_image, url))


def feed_of(url: str) -> Feed:
    """A stream to connect to."""
    address = urlsplit(url)
    place = f"{_host(address)}{unquote(address.path)}_{_hidden(address.query, '')}"
    name = re.sub(r"[^\w-]+", "_", place).strip("_")[:100] or "stream"
    return Feed(name, f"The stream {shown(url)}", partial(_connect, url))


def shown(url: str) -> str:
    """An address without its passwords: user, and values of a query that may be secret, become `***`."""
    head, _, tail = url.partition("://")
    authority, slash, rest = tail.partition("/")
    if "@" in authority:
        authority = "***@" + authority.rpartition("@")[2]
    path, mark, query = rest.partition("?")
    return f"{head}://{authority}{slash}{path}{mark}{_hidden(query, '***')}"


def _hidden(query: str, by: str) -> str:
    return _SECRET.sub(lambda found: found[1] + by, query)


def _host(address: SplitResult) -> str:
    return address.netloc.rpartition("@")[2]


def _connect(url: str, patience: Patience) -> object:
    capture = open_stream(url, patience)
    if capture.isOpened():
        return capture
    capture.release()
    if url.lower().startswith("http"):
        kind = _asked(url, patience.open)  # why: a wrong answer raises with words for it
        if kind.startswith("text/html"):
            raise Refused(_web_page(url))
    raise SourceError(
        f"The stream {shown(url)} cannot be opened: nobody answers there, or what comes is no video that OpenCV reads."
    )


# -- what a server says ----------------------------------------------------------------------------------------------


def _kind(url: str, address: SplitResult) -> str:
    """`image`, `video` (one that has an end) or `live`."""
    suffix = Path(address.path).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    # a camera may allow one connection alone, so it is not asked where its address tells: by its suffix, or by a
    # password in it
    if suffix in _LIVE_SUFFIXES or "@" in address.netloc:
        return "live"
    if suffix in VIDEO_SUFFIXES - {".ts"}:
        return "video"
    try:
        answer = _asked(url, _ASKING)
    except Refused:
        raise
    except SourceError:  # a stream that is not there yet is waited for
        return "video" if suffix in VIDEO_SUFFIXES else "live"
    kind, _, length = answer.partition(" ")
    if kind.startswith("text/html"):
        raise Refused(_web_page(url))
    if kind.startswith("image/"):
        return "image"
    return "video" if length and (kind.startswith("video/") or suffix in VIDEO_SUFFIXES) else "live"


def _asked(url: str, seconds: float) -> str:
    """Return the content type that a server announces, a blank, and the length if it says one.

    Raises:
        Refused: the server answers that there is nothing, or that it is not allowed.
        SourceError: it does not answer, or is not well.
    """
    address = urlsplit(url)
    if "@" in address.netloc:  # urllib does not use it, and would print it
        return " "
    request = urllib.request.Request(url, headers={"User-Agent": f"yolopose/{__version__}"})  # noqa: S310  # is http(s)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
            return f"{answer.headers.get_content_type()} {answer.headers.get('Content-Length', '')}"
    except urllib.error.HTTPError as error:
        with error:
            wrong = Refused if 400 <= error.code < 500 and error.code not in (408, 425, 429) else SourceError
            raise wrong(f"{shown(url)} answers {error.code} {error.reason}: {_meaning(error.code)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise SourceError(f"{shown(url)} cannot be reached: {reason}.") from None


def _meaning(code: int) -> str:
    if code in (401, 403):
        return "it asks for a user and password. Give them in the address: http://USER:PASSWORD@host/…"
    if code in (404, 410):
        return "there is nothing of this name. Check the address."
    return "the server is not well, or busy." if code >= 500 or code == 429 else "it refuses what was asked."


def _web_page(url: str) -> str:
    return (
        f"{shown(url)} gives a web page, no image or stream: perhaps a page to log in, or one that shows the stream. "
        "The manual of the camera names the address of the stream itself."
    )


# -- what is fetched -------------------------------------------------------------------------------------------------


def _file_name(url: str, otherwise: str) -> str:
    """The file name in an address, unquoted and without what a file name cannot hold."""
    name = re.sub(r"[^\w.\- ]", "_", unquote(urlsplit(url).path.rsplit("/", 1)[-1]))
    return name.lstrip(".") or otherwise


def _read_image(url: str) -> Item:
    return Item(_file_name(url, "image"), read_image(_fetch(url, "image")))


def _fetch(url: str, what: str) -> Path:
    """Fetch a file into the folder of downloads, once; an address with a query may change and is asked again."""
    key = hashlib.sha256(url.encode()).hexdigest()[:12]
    name = _file_name(url, what)
    target = Path(load_settings().datasets_dir) / "downloads" / f"{what}s" / f"{key}-{name}"
    if target.exists() and not urlsplit(url).query:
        verify_checksum(target)
    else:
        limit = _IMAGE_LIMIT if what == "image" else _VIDEO_LIMIT
        download(DownloadSpec(url=url, title=f"the {what} {name}", max_bytes=limit), target)
    return target
