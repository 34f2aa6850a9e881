"""Grammar of the command line: parse arguments to one `Command`, without running anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.config import MODES, modes_by_option, option_specs
from yolopose.config.unsupported import MISSING_COMMANDS

OTHER_TASKS = ("detect", "segment", "semantic", "depth", "classify", "obb")
ACTIONS = ("help", "version", "checks", "models", "formats", "toolchain", "settings", "cfg", "copy-cfg")
ACTIONS_WITH_VERBS = ("data",)
TOOLCHAIN_VERBS = ("list", "install", "remove", "run")
DATA_VERBS = tuple(mode.removeprefix("data ") for mode in MODES if mode.startswith("data "))
_HELP = ("help", "-h", "--help")
_KEY = re.compile(r"^[A-Za-z_][\w-]*$")
_FILE = re.compile(r"\.\w{1,12}$")


@dataclass(slots=True)
class Command:
    """A parsed command line.

    Attributes:
        action: a mode (`predict`, `val`, …) or a subcommand (`help`, `settings`, …).
        options: values by name.
        topic: mode whose help is requested, or None.
        notes: how unusual spellings were interpreted.
    """

    action: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    topic: str | None = None
    notes: list[str] = field(default_factory=list[str])


def parse(args: Sequence[str]) -> Command:
    """Parse the arguments of a command line.

    Raises:
        UsageError: the arguments are not a command; the message explains the syntax.
    """
    if args and args[0] == "toolchain":
        return _parse_toolchain(list(args[1:]))
    notes: list[str] = []
    bare, pairs = _split(_join(list(args), notes), notes)
    if "settings" not in bare:  # `task=pose mode=predict` is the long form of `pose predict`
        bare += [text for key, text in pairs if key in ("task", "mode")]
        pairs = [(key, text) for key, text in pairs if key not in ("task", "mode")]
    wants_help = any(word in _HELP for word in bare)
    bare = [word for word in bare if word not in _HELP and word != "pose"]
    wants_help = wants_help or (bare == ["data"] and not pairs)
    bare = _join_data_verb(bare, wants_help)
    action: str | None = None
    options: dict[str, Any] = {}
    if "compare" in bare:
        bare, folders = _compared_folders(bare, notes)
        pairs = [*folders, *pairs]
    for word in bare:
        if word in MISSING_COMMANDS:
            raise UsageError(f"`yolo {word}` does not exist in yolopose: {MISSING_COMMANDS[word]}.")
        if word in OTHER_TASKS:
            raise UsageError(f"yolopose estimates poses only; {word!r} is another task. Omit it or use 'pose'.")
        if word in MODES or word in ACTIONS:
            if action is not None:
                raise UsageError(f"Give one mode, not both {action!r} and {word!r}.")
            action = word
        elif "settings" in bare:
            if word != "reset":
                raise UsageError(f"{word!r} needs a value: `yolo settings KEY=VALUE`, `yolo settings reset`.")
            options[word] = True
        elif word == "data" and wants_help:
            action = word
        elif _is_switch(word):
            options[word] = True
        else:
            raise _unexpected(word, action or "")
    if wants_help or (action is None and not pairs and not options):
        return Command("help", topic=action, notes=notes)
    if action is None:
        raise UsageError(f"The mode is missing: yolo pose MODE {' '.join(args)}, where MODE is one of {_list_modes()}.")
    for key, text in pairs:
        if key in options:
            notes.append(f"{key}= is given twice; the last value is used.")
        options[key] = text if action == "settings" else parse_value(key, text)
    return Command(action, options, notes=notes)


def _compared_folders(bare: list[str], notes: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Take the two folders of `compare FIRST SECOND`, whose names need no `a=` and `b=`."""
    folders = [word for word in bare if word != "compare" and not _is_switch(word)]
    if len(folders) != 2:
        return bare, []
    notes.append(f"Read {folders[0]!r} {folders[1]!r} as a={folders[0]} b={folders[1]}.")
    return [word for word in bare if word not in folders], list(zip("ab", folders, strict=True))


def _join_data_verb(bare: list[str], wants_help: bool) -> list[str]:
    """Join the first two words of `data split …` to the name of one mode.

    Raises:
        UsageError: the subcommand of `data` is unknown.
    """
    if bare[:1] != ["data"] or (len(bare) == 1 and wants_help):
        return bare
    verb = bare[1] if len(bare) > 1 else ""
    if verb in DATA_VERBS:
        return [f"data {verb}", *bare[2:]]
    usage = f"yolo data {' | '.join(DATA_VERBS)}; `yolo help data` describes them."
    if not verb:
        raise UsageError(f"The subcommand of `data` is missing: {usage}")
    raise UsageError(f"yolo data {verb}: unknown subcommand.{did_you_mean(verb, DATA_VERBS)} Try: {usage}")


def _parse_toolchain(args: list[str]) -> Command:
    """Parse the arguments after `yolo toolchain`; those after `--` are the command to run in the environment.

    Raises:
        UsageError: the arguments are not a command.
    """
    end = args.index("--") if "--" in args else len(args)
    own = args[:end]
    command = args[end + 1 :]
    verb = own[0] if own else "list"
    if verb in _HELP:
        return Command("help", topic="toolchain")
    usage = "yolo toolchain list | install name=tf | remove name=tf | run name=tf -- yolo …"
    if verb not in TOOLCHAIN_VERBS:
        raise UsageError(
            f"yolo toolchain {verb}: unknown subcommand.{did_you_mean(verb, TOOLCHAIN_VERBS)} Try: {usage}"
        )
    names = [word.removeprefix("name=") for word in own[1:] if word.startswith("name=")]
    unexpected = [word for word in own[1:] if not word.startswith("name=")]
    if unexpected or len(names) != (verb != "list") or not all(names) or (command and verb != "run"):
        raise UsageError(f"Cannot parse: yolo toolchain {' '.join(args)}. The syntax is: {usage}")
    return Command("toolchain", {"verb": verb, "name": names[0] if names else "", "command": command})


def parse_value(key: str, text: str) -> Any:
    """Parse a value as a Python literal: True, None, 3, 1e-3, [0, 1], 0,1; anything else is text.

    Values of text options are not parsed, so that `name=007` and `project=1e5` stay unchanged.
    """
    lowered = text.lower()
    if lowered in ("none", "null"):
        return None
    specs = [option_specs(mode)[key] for mode in modes_by_option().get(key, ())]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]:
        return text[1:-1]  # without escapes: a backslash is part of a Windows path
    if specs and all(spec.is_text for spec in specs) and not text.startswith("["):
        return text
    if lowered in ("true", "false"):
        return lowered == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _is_switch(word: str) -> bool:
    """Return whether the bare name of an option means `name=True`."""
    return any(option_specs(mode)[word].is_switch for mode in modes_by_option().get(word, ()))


def _join(args: list[str], notes: list[str]) -> list[str]:
    """Join options that spaces have split: `key = value`, `--key value`, `key=[1, 2]`."""
    joined: list[str] = []
    while args:
        count = _option_length(args)
        word = "".join(args[:count])
        if count > 1 and "=" not in word:
            word = f"{args[0][2:]}={args[1]}"
        if count > 1:
            notes.append(f"Read {' '.join(args[:count])!r} as {word!r}.")
        joined.append(word)
        args = args[count:]
    return joined


def _option_length(args: list[str]) -> int:
    """Return how many of the first args form one option."""
    word = args[0]
    following = args[1] if len(args) > 1 else ""
    if _is_flag(word, following):
        return 2
    count = 3 if following == "=" and len(args) > 2 else 2 if _is_split(word, following) else 1
    value = "".join(args[:count]).partition("=")[2]
    if value[:1] in ("[", "("):
        for end in range(count, len(args) + 1):
            value = "".join(args[:end])
            if value.count("[") == value.count("]") and value.count("(") == value.count(")"):
                return end
    return count


def _is_flag(word: str, following: str) -> bool:
    """Return whether two args are `--key value`."""
    name = word[2:].replace("-", "_")
    if not word.startswith("--") or name not in modes_by_option() or _is_switch(name):
        return False
    return bool(following) and "=" not in following and not following.startswith("--") and following not in MODES


def _is_split(word: str, following: str) -> bool:
    """Return whether two args are one `key=value` with a space before or after the equals sign."""
    if following.startswith("="):
        return len(following) > 1 and "=" not in word
    return bool(following) and word.endswith("=") and word.count("=") == 1 and "=" not in following


def _split(args: list[str], notes: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Split args into bare ones and (key, value) pairs; drop leading `--` and trailing commas, with a note."""
    bare: list[str] = []
    pairs: list[tuple[str, str]] = []
    for original in args:
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
            raise UsageError(f"{original!r} is not an option: options are written key=value, such as conf=0.4.")
        elif not text:
            raise UsageError(f"{key}= has no value. Write {key}=VALUE without spaces, or {key}=None.")
        else:
            pairs.append((key.replace("-", "_"), text))
    return bare, pairs


def _list_modes() -> str:
    return ", ".join([*(mode for mode in MODES if " " not in mode), *ACTIONS_WITH_VERBS])


def _unexpected(word: str, action: str) -> UsageError:
    """Return the error for a bare word that is not a mode, task or switch."""
    if action == "compare":
        return UsageError(f"{word!r} has no option name. Give the folders of two validation runs: a={word} b=FOLDER.")
    if action in ("data get", "data list"):
        return UsageError(f"{word!r} has no option name; options are written key=value. Did you mean name={word}?")
    if _FILE.search(word) or "/" in word or "\\" in word:
        key = "data" if word.endswith((".yaml", ".yml")) and "pose" not in word else "model"
        if not word.endswith((".yaml", ".yml", ".pt", ".pth", ".safetensors", ".onnx")):
            key = "source"
        return UsageError(f"{word!r} has no option name; options are written key=value. Did you mean {key}={word}?")
    if word in modes_by_option():
        return UsageError(f"{word!r} needs a value: {word}=VALUE.")
    known = [*MODES, *ACTIONS, *ACTIONS_WITH_VERBS, "pose", *modes_by_option()]
    return UsageError(f"{word!r} is not a mode, subcommand or option.{did_you_mean(word, known)} Try: yolo help")
