"""File names made from foreign text: class names, stream names, names of videos."""

from __future__ import annotations

import re
import unicodedata

# Device names of Windows, which opens the device instead of a file of that name, with any suffix and in any folder.
RESERVED_NAME = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_SEPARATORS = re.compile(r'[/\\:*?"<>|]')
_MAX_BYTES = 120  # file systems allow 255; the rest is for numbers, suffixes and temporary names


def safe_file_name(text: str, default: str = "unnamed", max_bytes: int = _MAX_BYTES) -> str:
    """Return a file name made from any text: one part of a path, usable on every system.

    Separators and characters that Windows does not allow become `_`, control characters, formatting characters (which
    reverse the text around them) and lone surrogates are dropped, and so are dots and blanks at both ends.

    Args:
        text: the text.
        default: name where nothing remains.
        max_bytes: longest name in UTF-8; a longer one is cut off.

    Examples:
        >>> from yolopose.base.names import safe_file_name
        >>> safe_file_name("../dog"), safe_file_name(".."), safe_file_name("nul")
        ('_dog', 'unnamed', '_nul')
    """
    text = unicodedata.normalize("NFC", text[:4096])
    text = "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    name = _SEPARATORS.sub("_", text).strip(". ")
    name = name.encode()[:max_bytes].decode(errors="ignore").strip(". ")
    if not name:
        return default
    return f"_{name}" if RESERVED_NAME.fullmatch(name) else name
