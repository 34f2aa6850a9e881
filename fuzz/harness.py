"""What all fuzz targets share: one case with its limits, strategies of hypothesis, and the entry point of atheris.

A case is the content of a file or a request. It fails if it ends in an exception that is not an error of yolopose,
takes more than 10 s of CPU time or 1 GiB of memory, or has an error message that could control a terminal.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import signal
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import strategies as st

FUZZ = Path(__file__).resolve().parent
for _folder in ("src", "tests", "tests/serve", "tests/weights", "tests/data/convert"):
    sys.path.insert(0, str(FUZZ.parent / _folder))

CPU_SECONDS = 10
MEMORY_KIB = 1 << 20
MAX_MESSAGE = 20_000  # characters
_DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # reverse the text around them
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # files of cases are written there, if possible


class LimitExceeded(BaseException):
    """A case takes too long; not an `Exception`, so that no handler of the tested code hides it."""


@dataclass(frozen=True)
class Target:
    """One reader that files or requests of strangers reach.

    Attributes:
        name: name of the corpus folder; the file of the target is `fuzz_NAME.py`.
        run: reads one case; it may raise errors of `errors`.
        tokens: texts that mutations insert.
        errors: exceptions beside `YoloposeError` that the reader documents.
        json: whether the cases are JSON, of which values are replaced as well.
    """

    name: str
    run: Callable[[bytes], None]
    tokens: Sequence[bytes] = ()
    errors: tuple[type[BaseException], ...] = ()
    json: bool = False

    @property
    def corpus(self) -> Path:
        """Folder of the committed cases: seeds, and cases that failed once."""
        return FUZZ / "corpus" / self.name

    def seeds(self) -> list[bytes]:
        """Return the committed cases."""
        return [path.read_bytes() for path in sorted(self.corpus.iterdir())]


def check(target: Target, data: bytes) -> None:
    """Run one case within its limits.

    Raises:
        AssertionError: too much memory, or an error message with control characters.
        LimitExceeded: too much CPU time.
        Exception: any exception of the reader that is not an error of yolopose.
    """
    from yolopose.base import log
    from yolopose.base.errors import YoloposeError

    log._warned.clear()  # pyright: ignore[reportPrivateUsage]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        target.run(data)
    except (YoloposeError, *target.errors) as error:
        check_message(str(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert used < MEMORY_KIB, f"{used >> 10} MiB of memory"


def check_message(text: str) -> None:
    """Check that a message cannot control a terminal, can be printed as UTF-8, and is of a readable length."""
    assert len(text) <= MAX_MESSAGE, f"a message of {len(text)} characters"
    steering = [char for char in text if unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t"]
    steering += [char for char in text if unicodedata.bidirectional(char) in _DIRECTIONS]
    assert not steering, repr(text)


def _stop(number: int, frame: FrameType | None) -> None:
    raise LimitExceeded(f"more than {CPU_SECONDS} s of CPU time")


def work_folder() -> Path:
    """Return a new folder in memory, for the files of cases."""
    parent = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="yolopose-fuzz-", dir=parent))


def write_parts(folder: Path, names: Sequence[str], data: bytes) -> None:
    """Write a case that consists of several files, separated by a line `=====`."""
    parts = data.split(b"\n=====\n", len(names) - 1)
    for name, part in zip(names, parts + [b""] * (len(names) - len(parts)), strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part)


# -- hypothesis ---------------------------------------------------------------------------------------------------

_NUMBERS = [b"0", b"-1", b"1e999", b"nan", b"-inf", b"1e-320", b"99999999999999999999", b"0x10", b"1_0", b"True", b""]
_TEXTS = [
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\x1b[2J",
    b"../",
    b"/etc/passwd",
    b"\xe2\x80\xae",
    b"\n",
    b"\r\n",
    b",",
    b"'",
]
_VALUES: list[Any] = [
    None, True, -1, 0, 1.5, 1e308, float("nan"), float("inf"), 10**30, "", "..", "/etc/passwd", "a/../../b", "x" * 300,
    "\0", "\x1b[2J", "\ud800", "1", [], {}, [[]], [1], {"a": 1}, [None] * 50,
]  # fmt: skip


def cases(target: Target) -> st.SearchStrategy[bytes]:
    """Return the strategy of a target: edited seeds, arbitrary bytes, JSON with replaced values."""
    seeds = target.seeds()
    pieces = [*_NUMBERS, *_TEXTS, *target.tokens]
    kinds = [_edited(seeds, pieces)] * 4 + [st.binary(max_size=64)]
    if target.json:
        documents = [json.loads(seed) for seed in seeds if _is_json(seed)]
        kinds += [_replaced(documents)] * 4
    return st.one_of(kinds)


@st.composite
def _edited(draw: st.DrawFn, seeds: Sequence[bytes], pieces: Sequence[bytes]) -> bytes:
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 0, 1, 1, 2, 4, 16, 200]))
        piece = draw(st.sampled_from(pieces) | st.binary(max_size=4))
        if draw(st.integers(0, 5)) == 0:  # a copy of another place
            other = draw(st.integers(0, len(data)))
            piece = data[other : other + 64]
        data = data[:start] + piece + data[start + length :]
    return data


@st.composite
def _replaced(draw: st.DrawFn, documents: Sequence[Any]) -> bytes:
    value = json.loads(json.dumps(draw(st.sampled_from(documents))))
    for _ in range(draw(st.integers(1, 3))):
        slots = _slots(value)
        if not slots:
            break
        container, key = draw(st.sampled_from(slots))
        if draw(st.integers(0, 4)) == 0:
            del container[key]
        else:
            container[key] = copy.deepcopy(draw(st.sampled_from(_VALUES)))  # a later edit may change it
    return json.dumps(value).encode()


def _slots(value: Any) -> list[tuple[Any, Any]]:
    """Return container and key of each value inside a JSON value."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [slot for key in keys for slot in _slots(value[key])] + [(value, key) for key in keys]


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


# -- atheris ------------------------------------------------------------------------------------------------------


def main(target: Target) -> None:
    """Run a target under atheris with the arguments of libFuzzer, as OSS-Fuzz does."""
    import atheris

    from yolopose.base.log import LOGGER

    LOGGER.setLevel("CRITICAL")
    atheris.Setup(sys.argv, lambda data: check(target, data))
    atheris.Fuzz()
