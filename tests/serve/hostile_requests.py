"""Hostile and damaged requests by kind, with the answers that the server must give.

`docs/hostile-requests.md` is the table of these cases; a test compares them.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from running_server import encoded, request_bytes

GOOD = encoded()
READ_TIMEOUT = 1.0  # seconds, of the server in these tests
LIMITS = {"read_timeout": READ_TIMEOUT, "max_body_mb": 1, "max_megapixels": 4, "max_imgsz": 640, "timeout": 20}


@dataclass(frozen=True)
class Case:
    """One kind of request.

    Attributes:
        group: heading in the table.
        name: what is sent.
        send: the bytes of the connection.
        status: statuses that are right answers; 0 is a connection that is closed without one.
        error: code of the error, or "" where none is checked.
    """

    group: str
    name: str
    send: Callable[[], bytes]
    status: tuple[int, ...]
    error: str = ""

    @property
    def answer(self) -> str:
        texts = ["closed" if status == 0 else str(status) for status in self.status]
        return " or ".join(texts) + (f" {self.error}" if self.error else "")


# -- bodies -------------------------------------------------------------------------------------------------------


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes | None = None, *others: bytes) -> bytes:
    """A gray PNG; without rows, its compressed data are those of one black row."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = zlib.compress(b"\0" * (width + 1) if rows is None else rows, 9)
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(others) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def jpeg_with(height: int | None = None, width: int | None = None) -> bytes:
    """A JPEG whose header has another size."""
    data = bytearray(encoded(".jpg"))
    frame = data.index(b"\xff\xc0")
    for position, value in ((frame + 5, height), (frame + 7, width)):
        if value is not None:
            data[position : position + 2] = struct.pack(">H", value)
    return bytes(data)


def many_scans() -> bytes:
    """A progressive JPEG that repeats its last scan, each a few bytes that make a decoder visit every pixel."""
    image = np.zeros((1000, 1000), np.uint8)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 5000 + data[-2:]


def webp_with(side: int) -> bytes:
    size = (side - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size + size
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def bmp_with(width: int, height: int) -> bytes:
    data = bytearray(encoded(".bmp"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


class Exploit:
    """Unpickling this would raise an error that the test would see."""

    def __reduce__(self) -> object:
        return exec, ("raise SystemExit('unpickled')",)


def checkpoint() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Exploit()))
    return file.getvalue()


def npy_with_objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Exploit()], dtype=object), allow_pickle=True)
    return file.getvalue()


def form(*parts: bytes, boundary: str = "b") -> bytes:
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return request_bytes(body, Content_Type=f"multipart/form-data; boundary={boundary}")


def form_file(data: bytes = GOOD, name: str = "a.png") -> bytes:
    return f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + data


def image(data: bytes, path: str = "/predict") -> bytes:
    return request_bytes(data, path, Content_Type="image/jpeg")


def v2(header: object, data: bytes = b"", length: str | None = None, path: str = "/v2/models/fake/infer") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    headers = {"Inference_Header_Content_Length": str(len(text)) if length is None else length}
    return request_bytes(text + data, path, **headers)


def v2_input(shape: object = (1,), size: int | None = None, **others: object) -> dict[str, object]:
    parameters = {"binary_data_size": len(GOOD) + 4 if size is None else size}
    tensor = {"name": "image", "datatype": "BYTES", "shape": shape, "parameters": parameters, **others}
    return {"inputs": [tensor]}


HANDSHAKE = (
    b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://evil.example\r\nConnection: upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ELEMENT = struct.pack("<I", len(GOOD)) + GOOD
GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"

HTTP = [
    Case("HTTP", "random bytes", lambda: bytes(range(256)) * 20, (400,)),
    Case(
        "HTTP", "start of a TLS handshake", lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), (400,)
    ),
    Case("HTTP", "preface of HTTP/2", lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 421, 505)),
    Case("HTTP", "HTTP/0.9 request", lambda: b"GET /\r\n\r\n", (400,)),
    Case("HTTP", "no Host header", lambda: b"GET /healthz HTTP/1.1\r\n\r\n", (400,)),
    Case("HTTP", "two Host headers", lambda: GET + b"Host: b\r\n\r\n", (400,)),
    Case("HTTP", "a header of 64 KiB", lambda: GET + b"A: " + b"a" * 65536 + b"\r\n\r\n", (400, 431)),
    Case("HTTP", "5000 headers", lambda: GET + b"A: b\r\n" * 5000 + b"\r\n", (400, 431)),
    Case("HTTP", "a zero byte in a header", lambda: GET + b"A: a\0b\r\n\r\n", (400,)),
    Case("HTTP", "a header name with a space", lambda: GET + b"A b : c\r\n\r\n", (400,)),
    Case(
        "HTTP",
        "a path of 12 000 characters",
        lambda: request_bytes(path="/" + "a" * 12000, method="GET"),
        (404,),
        "not_found",
    ),
    Case("HTTP", "negative Content-Length", lambda: request_bytes(length=-1), (400,)),
    Case("HTTP", "Content-Length that is not a number", lambda: GET + b"Content-Length: 1e3\r\n\r\n", (400,)),
    Case(
        "HTTP", "two different Content-Length", lambda: GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", (400,)
    ),
    Case(
        "HTTP",
        "Content-Length and Transfer-Encoding",
        lambda: CHUNKED[:-2] + b"Content-Length: 4\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (400,),
    ),
    Case("HTTP", "Transfer-Encoding: gzip", lambda: GET + b"Transfer-Encoding: gzip\r\n\r\n", (400, 501)),
    Case("HTTP", "a chunk size that is not a number", lambda: CHUNKED + b"xyz\r\nabc\r\n", (400,)),
    Case("HTTP", "a chunk of 2⁶³ bytes", lambda: CHUNKED + b"7fffffffffffffff\r\nabc", (408,), "slow_request"),
    Case("HTTP", "50 KB in chunks of one byte", lambda: CHUNKED + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n", (408, 415)),
    Case("HTTP", "unknown method", lambda: request_bytes(method="HACK", path="/predict"), (405,), "method"),
    Case("HTTP", "TRACE", lambda: request_bytes(method="TRACE", path="/predict"), (405,), "method"),
    Case(
        "HTTP",
        "CONNECT to another host",
        lambda: b"CONNECT evil.example:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        (404, 405),
    ),
    Case(
        "HTTP", "path of a file", lambda: request_bytes(method="GET", path="/../../../etc/passwd"), (404,), "not_found"
    ),
    Case(
        "HTTP",
        "encoded path of a file",
        lambda: request_bytes(method="GET", path="/%2e%2e/%2e%2e/etc/passwd"),
        (404,),
        "not_found",
    ),
    Case(
        "HTTP",
        "address of another server as path",
        lambda: b"GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        (404,),
    ),
    Case(
        "HTTP",
        "name of another server (DNS rebinding)",
        lambda: request_bytes(GOOD, Host="evil.example"),
        (421,),
        "unknown_host",
    ),
    Case(
        "HTTP",
        "page of another web site",
        lambda: request_bytes(GOOD, Origin="https://evil.example"),
        (403,),
        "other_origin",
    ),
    Case("HTTP", "Origin: null", lambda: request_bytes(GOOD, Origin="null"), (403,), "other_origin"),
    Case(
        "HTTP",
        "preflight of another web site",
        lambda: request_bytes(method="OPTIONS", Origin="https://evil.example", Access_Control_Request_Method="POST"),
        (403,),
        "other_origin",
    ),
    Case(
        "HTTP", "upgrade to an unknown protocol", lambda: GET + b"Connection: upgrade\r\nUpgrade: evil\r\n\r\n", (200,)
    ),
    Case(
        "HTTP",
        "damaged WebSocket handshake",
        lambda: b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        (400,),
    ),
    Case(
        "HTTP",
        "WebSocket handshake of another web site",
        lambda: HANDSHAKE,
        (403,),
    ),
]

SLOW = [
    Case("Slow clients", "nothing is sent", lambda: b"", (408,)),
    Case("Slow clients", "the head stops in a header", lambda: GET + b"A: b", (408,)),
    Case(
        "Slow clients",
        "the body stops in its middle",
        lambda: request_bytes(GOOD[:100], length=len(GOOD)),
        (408,),
        "slow_request",
    ),
    Case("Slow clients", "a form stops in its middle", lambda: form(form_file())[:-60], (408,), "slow_request"),
]

BODIES = [
    Case("Bodies", "no body", lambda: image(b""), (400,), "empty_image"),
    Case(
        "Bodies", "Content-Length above the limit", lambda: request_bytes(b"a", length=10**9), (413,), "body_too_large"
    ),
    Case("Bodies", "Content-Length of 40 digits", lambda: request_bytes(b"a", length=10**39), (400, 413)),
    Case(
        "Bodies",
        "chunked body above the limit",
        lambda: CHUNKED + (b"10000\r\n" + bytes(65536) + b"\r\n") * 20,
        (413,),
        "body_too_large",
    ),
    Case(
        "Bodies",
        "compressed body (gzip bomb)",
        lambda: request_bytes(zlib.compress(bytes(10**6)), Content_Encoding="gzip"),
        (415,),
        "encoding",
    ),
    Case(
        "Bodies",
        "JSON with the URL of an image",
        lambda: request_bytes(b'{"url": "http://169.254.169.254/"}', Content_Type="application/json"),
        (415,),
        "content_type",
    ),
    Case(
        "Bodies",
        "form with the path of a file",
        lambda: request_bytes(b"path=/etc/passwd", Content_Type="application/x-www-form-urlencoded"),
        (415,),
        "content_type",
    ),
    Case(
        "Bodies",
        "text with the type of an image",
        lambda: image(b"http://169.254.169.254/latest/meta-data"),
        (415,),
        "unsupported_image",
    ),
    Case(
        "Bodies",
        "form without a boundary",
        lambda: request_bytes(b"--b\r\n", Content_Type="multipart/form-data"),
        (400,),
        "damaged_form",
    ),
    Case("Bodies", "form with another boundary", lambda: form(form_file(), boundary="c"), (400,), "damaged_form"),
    Case(
        "Bodies", "boundary of 1000 characters", lambda: form(form_file(), boundary="b" * 1000), (400,), "damaged_form"
    ),
    Case(
        "Bodies",
        "form without a file",
        lambda: form(b'Content-Disposition: form-data; name="conf"\r\n\r\n0.5'),
        (400,),
        "no_file",
    ),
    Case("Bodies", "form with two files", lambda: form(form_file(), form_file()), (400,), "no_file"),
    Case(
        "Bodies",
        "form that is cut short",
        lambda: request_bytes(b"--b\r\n" + form_file()[:80], Content_Type="multipart/form-data; boundary=b"),
        (400,),
        "no_file",
    ),
    Case(
        "Bodies",
        "form with 5000 fields",
        lambda: form(*[b'Content-Disposition: form-data; name="a%d"\r\n\r\nb' % number for number in range(5000)]),
        (400,),
        "damaged_form",
    ),
    Case(
        "Bodies",
        "form with a field of 100 KB",
        lambda: form(b'Content-Disposition: form-data; name="conf"\r\n\r\n' + b"1" * 100_000, form_file()),
        (400,),
        "damaged_form",
    ),
    Case(
        "Bodies", "part header of 500 KB", lambda: form(b"A: " + b"a" * 500_000 + b"\r\n\r\n"), (400,), "damaged_form"
    ),
    Case(
        "Bodies", "form of 1 MB of line ends", lambda: form(form_file(b"\r\n--" * 250_000)), (415,), "unsupported_image"
    ),
    Case("Bodies", "file name that is a path", lambda: form(form_file(name="../../../../etc/passwd")), (200,)),
    Case("Bodies", "pickle", lambda: image(pickle.dumps(Exploit())), (415,), "unsupported_image"),
    Case("Bodies", "PyTorch checkpoint", lambda: image(checkpoint()), (415,), "unsupported_image"),
    Case("Bodies", "NumPy file with pickled objects", lambda: image(npy_with_objects()), (415,), "unsupported_image"),
    Case(
        "Bodies",
        "SVG with an external entity",
        lambda: image(b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>'),
        (415,),
        "unsupported_image",
    ),
    Case("Bodies", "GIF", lambda: image(b"GIF89a\1\0\1\0\0\0\0;"), (415,), "unsupported_image"),
    Case("Bodies", "TIFF", lambda: image(encoded(".tiff")), (415,), "unsupported_image"),
    Case("Bodies", "PDF", lambda: image(b"%PDF-1.7\n"), (415,), "unsupported_image"),
    Case("Bodies", "HEIC", lambda: image(b"\0\0\0\x18ftypheic" + bytes(100)), (415,), "unsupported_image"),
    Case("Bodies", "EXR", lambda: image(b"\x76\x2f\x31\x01" + bytes(100)), (415,), "unsupported_image"),
    Case("Bodies", "one megabyte of zeros", lambda: image(bytes(10**6)), (415,), "unsupported_image"),
]

IMAGES = [
    Case("Images", "PNG bomb: 60 000 × 60 000", lambda: image(png(60_000, 60_000)), (413,), "image_too_large"),
    Case("Images", "PNG of 2³¹ - 1 columns", lambda: image(png(2**31 - 1, 1, b"\0")), (413,), "image_too_large"),
    Case("Images", "PNG of size 0", lambda: image(png(0, 10, b"")), (400,), "image_damaged"),
    Case(
        "Images", "PNG with 100 times the pixels of its header", lambda: image(png(100, 100, bytes(10**6))), (200, 400)
    ),
    Case("Images", "PNG with less data than its header", lambda: image(png(1000, 1000)), (400, 200)),
    Case(
        "Images",
        "PNG whose text inflates to 500 MB",
        lambda: image(
            png(64, 64, bytes(64 * 65), png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(500_000_000), 9)[:800_000]))
        ),
        (200, 400),
    ),
    Case(
        "Images",
        "PNG with 50 000 chunks",
        lambda: image(png(64, 64, bytes(64 * 65), *[png_chunk(b"tEXt", b"")] * 50_000)),
        (400,),
        "image_damaged",
    ),
    Case(
        "Images", "PNG with a wrong checksum", lambda: image(GOOD[:-30] + b"\0" + GOOD[-29:]), (400,), "image_damaged"
    ),
    Case("Images", "PNG that is cut short", lambda: image(GOOD[: len(GOOD) // 2]), (400,), "image_damaged"),
    Case("Images", "JPEG of 65 500 × 65 500", lambda: image(jpeg_with(65_500, 65_500)), (413,), "image_too_large"),
    Case("Images", "JPEG of height 0", lambda: image(jpeg_with(0)), (400,), "image_damaged"),
    Case(
        "Images", "JPEG with a larger size than its data", lambda: image(jpeg_with(1900, 1900)), (400,), "image_damaged"
    ),
    Case("Images", "progressive JPEG of 5000 scans", lambda: image(many_scans()), (400,), "image_damaged"),
    Case("Images", "JPEG that is cut short", lambda: image(encoded(".jpg")[:600]), (400,), "image_damaged"),
    Case("Images", "two bytes of a JPEG", lambda: image(b"\xff\xd8"), (400,), "image_damaged"),
    Case("Images", "WebP canvas of 16 384 × 16 384", lambda: image(webp_with(16384)), (413,), "image_too_large"),
    Case("Images", "WebP without an image", lambda: image(webp_with(16)), (400,), "image_damaged"),
    Case("Images", "BMP of 2³¹ - 1 columns", lambda: image(bmp_with(2**31 - 1, -(2**31))), (413,), "image_too_large"),
    Case(
        "Images", "BMP with a larger size than its data", lambda: image(bmp_with(1500, 1500)), (400,), "image_damaged"
    ),
    Case("Images", "one pixel", lambda: image(png(1, 1, b"\0\0")), (200,)),
    Case("Images", "20 000 × 1 pixels", lambda: image(png(20_000, 1, bytes(20_001))), (200,)),
]

PARAMETERS = [
    Case("Parameters", f"{name}", (lambda path: lambda: image(GOOD, path))(f"/predict?{query}"), (status,), error)
    for name, query, status, error in [
        ("conf=nan", "conf=nan", 400, "parameter"),
        ("conf=1e999", "conf=1e999", 400, "parameter"),
        ("conf=-0.1", "conf=-0.1", 400, "parameter"),
        ("conf that is code", "conf=__import__('os')", 400, "parameter"),
        ("iou=2", "iou=2", 400, "parameter"),
        ("imgsz=0", "imgsz=0", 400, "parameter"),
        ("imgsz=100000000", "imgsz=100000000", 400, "parameter"),
        ("imgsz of three sides", "imgsz=1,2,3", 400, "parameter"),
        ("a number of 10 000 digits", "max_det=" + "9" * 10_000, 400, "parameter"),
        ("max_det above the limit", "max_det=29999", 400, "parameter"),
        ("unknown class", "classes=99", 400, "parameter"),
        ("2000 times the same class", "classes=" + "0," * 2000 + "0", 200, ""),
        ("unknown model", "model=other", 404, "unknown_model"),
        ("model that is a path", "model=../../secret.onnx", 404, "unknown_model"),
        ("source that is a URL", "source=http://169.254.169.254/", 400, "parameter"),
        ("project that is a path", "project=/etc", 400, "parameter"),
        ("format=pickle", "format=pickle", 400, "parameter"),
        ("timeout=nan", "timeout=nan", 400, "parameter"),
        ("timeout=-1", "timeout=-1", 400, "parameter"),
        ("1000 parameters", "&".join(f"a{number}=1" for number in range(1000)), 400, "parameter"),
        ("percent signs without a code", "conf=%zz%", 400, "parameter"),
    ]
]

PROTOCOL = [
    Case("Open Inference Protocol", name, send, (status,))
    for name, send, status in [
        ("no JSON", lambda: v2(b"abc"), 400),
        ("JSON of 100 000 levels", lambda: v2(b"[" * 100_000), 400),
        ("JSON that is not an object", lambda: v2([1]), 400),
        ("no input", lambda: v2({}), 400),
        ("two inputs", lambda: v2({"inputs": [{}, {}]}), 400),
        ("input of another type", lambda: v2(v2_input(datatype="FP32"), ELEMENT), 400),
        ("shape of 10¹⁸ elements", lambda: v2(v2_input([10**9, 10**9]), ELEMENT), 400),
        ("negative shape", lambda: v2(v2_input([-1]), ELEMENT), 400),
        ("shape of other elements than the data", lambda: v2(v2_input([2]), ELEMENT), 400),
        ("shape that is text", lambda: v2(v2_input("1"), ELEMENT), 400),
        ("length of the JSON beyond the body", lambda: v2(v2_input(), ELEMENT, "99999"), 400),
        ("length of the JSON that is not a number", lambda: v2(v2_input(), ELEMENT, "-5"), 400),
        ("binary size beyond the body", lambda: v2(v2_input(size=10**12), ELEMENT), 400),
        ("element longer than the data", lambda: v2(v2_input(size=8), b"\xff\xff\xff\xffabcd"), 400),
        ("binary data that end in a length", lambda: v2(v2_input(size=2), b"\1\0"), 400),
        ("100 000 empty elements", lambda: v2(v2_input([100_000], 400_000), bytes(400_000)), 429),
        (
            "shared memory",
            lambda: v2({"inputs": [{**v2_input()["inputs"][0], "parameters": {"shared_memory_region": "a"}}]}),
            400,
        ),
        ("unknown output", lambda: v2({**v2_input(), "outputs": [{"name": "weights"}]}, ELEMENT), 400),
        ("unknown parameter", lambda: v2({**v2_input(), "parameters": {"source": "/etc/passwd"}}, ELEMENT), 400),
        (
            "image that is not base64",
            lambda: v2({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["!"]}]}),
            400,
        ),
        ("unknown version", lambda: v2(v2_input(), ELEMENT, path="/v2/models/fake/versions/9/infer"), 404),
        ("replacing a model without a key", lambda: request_bytes(b"{}", "/v2/repository/models/fake/load"), 403),
    ]
]

CASES = [*HTTP, *SLOW, *BODIES, *IMAGES, *PARAMETERS, *PROTOCOL]


def markdown() -> str:
    """The table of all cases; `docs/hostile-requests.md` has this text."""
    lines = [
        "# Hostile requests",
        "",
        "What `yolo serve` answers to hostile and damaged requests. The table is generated from the cases of",
        "`tests/serve/hostile_requests.py`; the tests send each of them to a running server, check the answer, and",
        "check that the next image is answered correctly. No answer contains a path or a traceback.",
    ]
    for group in dict.fromkeys(case.group for case in CASES):
        lines += ["", f"## {group}", "", "| request | answer |", "|---|---|"]
        lines += [f"| {case.name} | {case.answer} |" for case in CASES if case.group == group]
    return "\n".join(lines) + "\n"
