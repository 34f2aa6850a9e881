"""Two thousand damaged and tampered files: each is read within bounds or raises our error, and runs nothing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weights_craft import STORAGES, archive, call, good, name, op, text

from yolopose.base.errors import YoloposeError
from yolopose.weights import read_checkpoint

GOLDEN = Path(__file__).parent / "golden"
CANARY = "canary"
PAYLOADS = [
    call("os", "mkdir", text(CANARY)) + op("POP"),
    call("builtins", "exec", text(f"__import__('os').mkdir('{CANARY}')")) + op("POP"),
    name("os", "mkdir"),
    *(op(code) for code in ("REDUCE", "BUILD", "NEWOBJ", "STACK_GLOBAL", "POP", "DUP", "MARK", "APPENDS", "SETITEMS")),
    *(op(code) for code in ("BINPERSID", "TUPLE", "EMPTY_TUPLE", "EMPTY_DICT", "NEWOBJ_EX", "INST", "OBJ", "STOP")),
]
# (position 0…1, number of bytes removed, bytes inserted)
EDIT = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([0, 0, 1, 1, 1, 2, 4, 8, 50]),
    st.one_of(st.binary(max_size=4), st.sampled_from(PAYLOADS)),
)
EDITS = st.lists(EDIT, min_size=1, max_size=4)
FUZZ = settings(
    max_examples=1000, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def edited(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for where, gone, new in edits:
        at = int(where * len(content))
        content = content[:at] + new + content[at + gone :]
    return content


def pickled(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The pickle of a torch file, and its storages."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        members = {member.split("/", 1)[1]: opened.read(member) for member in opened.namelist()}
    return members["data.pkl"], {key[5:]: data for key, data in members.items() if key.startswith("data/")}


FILES = [good(), (GOLDEN / "format_1.bin").read_bytes(), (GOLDEN / "format_1_safetensors.bin").read_bytes()]
PICKLES = [pickled(content) for content in FILES[:2]]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], str]:
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "file.pt"

    def read(content: bytes) -> str:
        path.write_bytes(content)
        try:
            found = read_checkpoint(path)
        except YoloposeError as error:
            result = type(error).__name__
        else:
            assert sum(value.numel() for value in found.state.values()) <= len(content)
            for value in found.state.values():
                value.double().sum()  # reads every element
            result = "read"
        assert not (Path.cwd() / CANARY).exists()
        assert [file.name for file in folder.iterdir()] == ["file.pt"]
        return result

    return read


@FUZZ
@given(content=st.sampled_from(FILES), edits=EDITS)
def test_damaged_bytes(outcome: Callable[[bytes], str], content: bytes, edits: list[tuple[float, int, bytes]]) -> None:
    outcome(edited(content, edits))


@FUZZ
@given(source=st.sampled_from(PICKLES), edits=EDITS)
def test_tampered_pickles(
    outcome: Callable[[bytes], str], source: tuple[bytes, dict[str, bytes]], edits: list[tuple[float, int, bytes]]
) -> None:
    program, storages = source
    outcome(archive(edited(program, edits), storages))


def test_edits_reach_all_outcomes(outcome: Callable[[bytes], str]) -> None:
    """The tests above would prove nothing if every file were refused at once."""
    program, storages = PICKLES[0]
    end = (len(program) - 1) / len(program)
    assert outcome(archive(program, storages)) == "read"
    assert outcome(archive(edited(program, [(end, 0, op("NONE") + op("POP"))]), STORAGES)) == "read"
    assert outcome(archive(edited(program, [(end, 0, PAYLOADS[0])]), STORAGES)) == "UnsafeFileError"
    assert outcome(archive(edited(program, [(0.5, 50, b"")]), STORAGES)) in ("WeightsError", "UnsafeFileError")
