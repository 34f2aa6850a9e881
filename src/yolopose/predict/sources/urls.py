"""URLs: detection of images, videos and streams, downloads, and display without credentials."""

from __future__ import annotations

import http.client
import re
import unicodedata
import urllib.error
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from yolopose.base.addresses import address_digest, show_address
from yolopose.base.download import DownloadSpec, download, file_name_from_url, url_digest, verify_checksum
from yolopose.base.errors import DownloadError, SourceError
from yolopose.base.http_client import open_address
from yolopose.base.names import safe_file_name
from yolopose.base.settings import load_settings
from yolopose.base.text import short_text
from yolopose.data.images import IMAGE_SUFFIXES, read_image
from yolopose.predict.sources.base import (
    VIDEO_SUFFIXES,
    ImageRef,
    LiveFeed,
    LoadedImage,
    RetryPolicy,
    SourcePart,
    Video,
)
from yolopose.predict.sources.video import PermanentSourceError, open_stream

_MAX_IMAGE_BYTES = 500_000_000
_MAX_VIDEO_BYTES = 8_000_000_000
_PROBE_TIMEOUT = 10.0  # seconds for a server to announce its content type

_STREAM_SCHEMES = frozenset({"rtmp", "rtmps", "rtmpt", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp"})
_LIVE_SUFFIXES = frozenset({".m3u8", ".mjpeg", ".mjpg", ".mpd", ".sdp"})
_YOUTUBE = re.compile(r"(.+\.)?(youtube\.com|youtu\.be|youtube-nocookie\.com)$", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Return whether a text is `scheme://…`."""
    return re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE) is not None


def open_url(text: str, *, alpha: bool = False) -> SourcePart:
    """Return the image, video or stream at a URL.

    Images and finished videos at http(s) URLs are downloaded once, when their turn comes. If the suffix of the URL is
    unknown, the server is asked for the content type.

    Args:
        text: the URL.
        alpha: keep a fourth channel of an image.

    Raises:
        SourceError: a YouTube page, an unsupported scheme, a missing file, or a web page.
    """
    url = text.strip()
    try:
        url.encode()  # OpenCV crashes at half of a surrogate pair
        parsed = urlsplit(url)
        host = parsed.hostname or ""
    except ValueError as error:
        raise SourceError(f"The source is not a valid URL ({short_text(str(error))}).") from error
    if any(unicodedata.category(letter) == "Cc" for letter in url):
        raise SourceError(f"The URL {url} contains control characters.")
    scheme = parsed.scheme.lower()
    if _YOUTUBE.match(host):
        raise SourceError(
            f"YouTube pages are not supported ({show_address(url)}). Download the video first, for example with "
            "`yt-dlp -o video.mp4 URL`, and pass the file: source=video.mp4"
        )
    if scheme in _STREAM_SCHEMES:
        return stream_feed(url)
    if scheme not in ("http", "https") or not host:
        raise SourceError(
            f"The URL {show_address(url)} is not supported: the scheme must be http, https, "
            f"{', '.join(sorted(_STREAM_SCHEMES))}. Download it with another program and pass the file."
        )
    kind = _detect_kind(url, parsed)
    if kind == "live":
        return stream_feed(url)
    if "@" in parsed.netloc:
        raise SourceError(
            f"{url} is not downloaded: user and password in a URL are supported for streams only. Download it "
            "with another program and pass the file."
        )
    if kind == "video":
        return Video(file_name_from_url(url, "video"), partial(_download, url, "video"))
    return ImageRef(file_name_from_url(url, "image"), partial(_load_image, url, alpha=alpha))


def stream_feed(url: str) -> LiveFeed:
    """Return the feed of a stream."""
    shown = show_address(url)
    # several streams of a host differ in what must not be part of a file name
    host = re.sub(r"[^\w-]+", "_", shown.partition("://")[2].replace("***", "")).strip("_")
    name = safe_file_name(f"{host[:80] or 'stream'}_{address_digest(url)[:8]}")
    return LiveFeed(name, f"The stream {shown}", partial(_connect, url))


def _connect(url: str, retry: RetryPolicy) -> object:
    capture = open_stream(url, retry)
    if capture.isOpened():
        return capture
    capture.release()
    if url.lower().startswith("http"):
        # OpenCV does not report why it failed; the HTTP status and content type do.
        content_type = _probe(url, retry.connect_timeout)
        if content_type.startswith("text/html"):
            raise PermanentSourceError(_web_page_message(url))
    raise SourceError(
        f"The stream {show_address(url)} cannot be opened: no answer, or not a video format that OpenCV can read."
    )


# -- Content type ----------------------------------------------------------------------------------------------------


def _detect_kind(url: str, parsed: SplitResult) -> str:
    """Return `image`, `video` (of finite length) or `live`."""
    suffix = Path(parsed.path).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    # Some cameras accept a single connection, so a URL that is a stream by its suffix or credentials is not probed.
    if suffix in _LIVE_SUFFIXES or "@" in parsed.netloc:
        return "live"
    if suffix in VIDEO_SUFFIXES - {".ts"}:  # .ts files and live transport streams share the suffix
        return "video"
    try:
        answer = _probe(url, _PROBE_TIMEOUT)
    except PermanentSourceError:
        raise
    except SourceError:  # a stream that is not available yet is retried later
        return "video" if suffix in VIDEO_SUFFIXES else "live"
    content_type, _, length = answer.partition(" ")
    if content_type.startswith("text/html"):
        raise PermanentSourceError(_web_page_message(url))
    if content_type.startswith("image/"):
        return "image"
    return "video" if length and (content_type.startswith("video/") or suffix in VIDEO_SUFFIXES) else "live"


def _probe(url: str, timeout: float) -> str:
    """Return the content type of a URL, a space, and the length if the server sends one.

    Raises:
        PermanentSourceError: the server answers 4xx.
        SourceError: no answer, or a temporary failure.
    """
    if "@" in urlsplit(url).netloc:  # urllib ignores the credentials and would print them in errors
        return " "
    try:
        with open_address(url, timeout) as answer:
            return f"{answer.headers.get_content_type()} {answer.headers.get('Content-Length', '')}"
    except urllib.error.HTTPError as error:
        with error:
            permanent = 400 <= error.code < 500 and error.code not in (408, 425, 429)
            error_type = PermanentSourceError if permanent else SourceError
            message = f"{url} answers {error.code} {short_text(str(error.reason))}: {_explain_status(error.code)}"
            raise error_type(message) from None
    except DownloadError as error:  # not a valid address, or a redirect that is not followed
        raise PermanentSourceError(str(error)) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise SourceError(f"{show_address(url)} cannot be reached: {short_text(str(reason))}.") from None


def _explain_status(code: int) -> str:
    if code in (401, 403):
        return "it requires a user and password. Write them in front of the host in the URL: USER:PASSWORD@"
    if code in (404, 410):
        return "it does not exist. Check the URL."
    if code >= 500 or code == 429:
        return "the server is overloaded or has an error."
    return "the server rejects the request."


def _web_page_message(url: str) -> str:
    return (
        f"{url} is a web page instead of an image or stream: perhaps a login page, or a page that embeds the stream. "
        "Use the URL of the stream itself, from the manual of the camera."
    )


# -- Downloads -------------------------------------------------------------------------------------------------------


def _load_image(url: str, *, alpha: bool) -> LoadedImage:
    return LoadedImage(file_name_from_url(url, "image"), read_image(_download(url, "image"), alpha=alpha))


def _download(url: str, kind: str) -> Path:
    """Download a file once; a URL with a query is downloaded again, since its content may change."""
    name = file_name_from_url(url, kind)
    target = Path(load_settings().datasets_dir) / "downloads" / f"{kind}s" / f"{url_digest(url)[:12]}-{name}"
    if target.exists() and not urlsplit(url).query:
        verify_checksum(target)
    else:
        max_bytes = _MAX_IMAGE_BYTES if kind == "image" else _MAX_VIDEO_BYTES
        download(DownloadSpec(url=url, title=f"the {kind} {name}", max_bytes=max_bytes), target)
    return target
