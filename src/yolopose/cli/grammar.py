"""The grammar of the command line: words in, one `Command` out. Nothing is run here."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.config import MODES, all_keys, keys_of

OTHER_TASKS = ("detect", "segment", "semantic", "depth", "classify", "obb")
ACTIONS = ("help", "version", "checks", "settings", "cfg", "copy-cfg")
LATER = ("benchmark", "convert", "models", "formats")
_HELP = ("help", "-h", "--help")
_KEY = re.compile(r"^[A-Za-z_][\w-]*$")
_FILE = re.compile(r"\.\w{1,12}$")
_TEXT_TYPES = ("str", "str | None", "Any")


@dataclass(slots=True)
class Command:
    """What a line asks for.

    Attributes:
        action: a mode (`predict`, `val`, …) or a subcommand (`help`, `settings`, …).
        options: keys and values.
        topic: mode that help is asked for, or None.
        notes: how unusual spellings were read.
    """

    action: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    topic: str | None = None
    notes: list[str] = field(default_factory=list[str])


def parse(words: Sequence[str]) -> Command:
    """Reads the words of a command line.

    Raises:
        UsageError: the words make no command; the text says what would.
    """
    notes: list[str] = []
    bare, pairs = _split(_joined(list(words), notes), notes)
    wants_help = any(word in _HELP for word in bare)
    bare = [word for word in bare if word not in _HELP]
    action: str | None = None
    options: dict[str, Any] = {}
    for word in bare:
        if word == "pose":
            continue
        if word in OTHER_TASKS:
            raise UsageError(f"yolopose estimates poses only; {word!r} is another task. Leave it out or say 'pose'.")
        if word in MODES or word in ACTIONS or word in LATER:
            if action is not None:
                raise UsageError(f"One mode at a time: {action!r} and {word!r} were given.")
            action = word
        elif word in all_keys() and any(keys_of(mode)[word].type.startswith("bool") for mode in all_keys()[word]):
            options[word] = True
        else:
            raise _lost(word)
    if wants_help or (action is None and not pairs and not options):
        return Command("help", topic=action, notes=notes)
    if action is None:
        raise UsageError(
            f"The mode is missing: yolo pose MODE {' '.join(words)}, where MODE is one of {', '.join(MODES)}."
        )
    for key, text in pairs:
        if key in options:
            notes.append(f"{key}= is given twice; the last one counts.")
        options[key] = text if action == "settings" else value_of(key, text)
    return Command(action, options, notes=notes)


def value_of(key: str, text: str) -> Any:
    """Reads a value as a Python-like literal: True, None, 3, 1e-3, [0, 1], 0,1; anything else is text.

    A key that takes text alone keeps what was written, so that `name=007` or `project=1e5` stay as they are.
    """
    lowered = text.lower()
    if lowered in ("none", "null"):
        return None
    types = {keys_of(mode)[key].type for mode in all_keys().get(key, ())}
    if types and types <= set(_TEXT_TYPES) and not text.startswith("["):
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    if lowered in ("true", "false"):
        return lowered == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _joined(words: list[str], notes: list[str]) -> list[str]:
    """Joins `key = value`, `key= value` and `key =value` to one word each."""
    joined: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        following = words[position + 1] if position + 1 < len(words) else ""
        if following == "=" and position + 2 < len(words):
            word, step = f"{word}={words[position + 2]}", 3
        elif _halves(word, following):
            word, step = word + following, 2
        else:
            step = 1
        if step > 1:
            notes.append(f"Read {' '.join(words[position : position + step])!r} as {word!r}.")
        joined.append(word)
        position += step
    return joined


def _halves(word: str, following: str) -> bool:
    """Whether two words are one `key=value` with a blank before or after the sign."""
    if following.startswith("="):
        return len(following) > 1 and "=" not in word
    return bool(following) and word.endswith("=") and word.count("=") == 1 and "=" not in following


def _split(words: list[str], notes: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Parts words into bare ones and (key, value) pairs; drops leading `--` and trailing commas, with a note."""
    bare: list[str] = []
    pairs: list[tuple[str, str]] = []
    for original in words:
        word = original
        if word.endswith(",") and word != ",":
            word = word[:-1]
        if word.startswith("--") and word not in _HELP:
            word = word[2:]
        if word != original:
            notes.append(f"Read {original!r} as {word!r}.")
        key, sign, text = word.partition("=")
        if not sign:
            bare.append(word)
        elif not _KEY.match(key):
            raise UsageError(f"{original!r} is no option: options are written key=value, such as conf=0.4.")
        elif not text:
            raise UsageError(f"{key}= has no value. Write {key}=VALUE without blanks, or {key}=None for none.")
        else:
            pairs.append((key.replace("-", "_"), text))
    return bare, pairs


def _lost(word: str) -> UsageError:
    """The error for a bare word that is no mode, task or switch."""
    if _FILE.search(word) or "/" in word or "\\" in word:
        key = "data" if word.endswith((".yaml", ".yml")) and "pose" not in word else "model"
        if not word.endswith((".yaml", ".yml", ".pt", ".pth", ".safetensors", ".onnx")):
            key = "source"
        return UsageError(f"{word!r} stands alone; options are written key=value. Did you mean {key}={word}?")
    if word in all_keys():
        return UsageError(f"{word!r} needs a value: {word}=VALUE.")
    known = [*MODES, *ACTIONS, "pose", *all_keys()]
    return UsageError(f"{word!r} is no mode, no subcommand and no option.{did_you_mean(word, known)} Try: yolo help")
