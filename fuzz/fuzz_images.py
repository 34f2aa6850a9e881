"""Image files, through the header reader and the decoders."""

from __future__ import annotations

from instrumented import instrument

with instrument():
    from harness import Target, main, work_folder

    from yolopose.data.image_header import complete_image_size
    from yolopose.data.images import decode_image, decode_reduced, read_image

FOLDER = work_folder()


def run(data: bytes) -> None:
    """Read one case."""
    path = FOLDER / "a.jpg"
    path.write_bytes(data)
    size = complete_image_size(path)
    image = read_image(path) if len(data) % 4 == 0 else decode_image(data, "a.jpg", alpha=len(data) % 2 == 0)
    assert image.ndim == 3
    assert image.dtype == "uint8"
    assert size is None or image.shape[:2] == size
    decode_reduced(data, "a.jpg", 8)


TARGET = Target(
    "images",
    run,
    [
        b"\xff\xd8",
        b"\xff\xd9",
        b"\xff\xc0",
        b"\xff\xda",
        b"IHDR",
        b"IDAT",
        b"IEND",
        b"II*\0",
        b"MM\0*",
        b"Exif\0\0",
        b"WEBP",
        b"VP8X",
        b"ftypavif",
    ],
)

if __name__ == "__main__":
    main(TARGET)
