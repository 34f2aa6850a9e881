"""Malicious pickles: every way to ask for a call or an object is refused, and nothing is run."""

from __future__ import annotations

import copyreg
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from weights_craft import LAYER, STORAGES, archive, call, checkpoint, encode, good, name, network, op, program, text

from yolopose.base.errors import UnsafeFileError, WeightsError
from yolopose.weights import read_checkpoint

CANARY = "canary"  # the folder that a payload creates
SHELL = text(f"mkdir {CANARY}")
CODE = text(f"__import__('os').mkdir('{CANARY}')")
RUN = encode((CANARY,)) + op("REDUCE")  # calls what is on the stack
MARK, EMPTY = op("MARK"), op("EMPTY_TUPLE")


def module(which: str) -> bytes:
    return call("importlib", "import_module", text(which))


def stacked(where: str, what: str) -> bytes:
    parts = (op("SHORT_BINUNICODE") + bytes([len(part)]) + part.encode() for part in (where, what))
    return b"".join(parts) + op("STACK_GLOBAL")


# Each of these creates the canary under Python's unpickler. name: (instructions, part of the error message)
LIVE = {
    "REDUCE os.system": (call("os", "system", SHELL), "os.system"),
    "REDUCE posix.system": (call("posix", "system", SHELL), "posix.system"),
    "REDUCE os.mkdir": (name("os", "mkdir") + RUN, "os.mkdir"),
    "REDUCE builtins.eval": (call("builtins", "eval", CODE), "builtins.eval"),
    "REDUCE __builtin__.eval (python 2)": (call("__builtin__", "eval", CODE), "__builtin__.eval"),
    "REDUCE builtins.exec": (call("builtins", "exec", CODE), "builtins.exec"),
    "REDUCE builtins.__import__": (
        call("builtins", "getattr", call("builtins", "__import__", text("os")), text("mkdir")) + RUN,
        "builtins.__import__",
    ),
    "REDUCE builtins.map": (
        call("builtins", "list", call("builtins", "map", name("os", "mkdir"), encode([CANARY]))),
        "builtins.list",
    ),
    "REDUCE importlib.import_module": (
        call("builtins", "getattr", module("os"), text("mkdir")) + RUN,
        "importlib.import_module",
    ),
    "REDUCE operator.methodcaller": (
        call("operator", "methodcaller", text("mkdir"), text(CANARY)) + encode((module("os"),)) + op("REDUCE"),
        "operator.methodcaller",
    ),
    "REDUCE operator.attrgetter": (
        call("operator", "attrgetter", text("os.mkdir")) + encode((module("shutil"),)) + op("REDUCE") + RUN,
        "operator.attrgetter",
    ),
    "REDUCE functools.partial": (
        call("functools", "partial", name("os", "mkdir"), text(CANARY)) + EMPTY + op("REDUCE"),
        "functools.partial",
    ),
    "REDUCE subprocess.run": (call("subprocess", "run", encode(["mkdir", CANARY])), "subprocess.run"),
    "REDUCE numpy.savetxt": (call("numpy", "savetxt", text(CANARY), encode([0])), "numpy.savetxt"),
    "REDUCE torch.save": (call("torch", "save", encode(0), text(CANARY)), "torch.save"),
    "STACK_GLOBAL os.mkdir": (stacked("os", "mkdir") + RUN, "os.mkdir"),
    "INST os.system": (MARK + SHELL + op("INST") + b"os\nsystem\n", "INST"),
    "OBJ os.system": (MARK + name("os", "system") + SHELL + op("OBJ"), "os.system"),
    "EXT1": (op("EXT1") + b"\xf1" + RUN, "EXT1"),
    "EXT2": (op("EXT2") + b"\xf1\x00" + RUN, "EXT2"),
    "EXT4": (op("EXT4") + b"\xf1\x00\x00\x00" + RUN, "EXT4"),
    "BUILD through __setstate__": (
        name("functools", "partial") + encode((name("os", "getcwd"),)) + op("NEWOBJ")
        + encode((name("os", "mkdir"), (CANARY,), {}, None)) + op("BUILD") + EMPTY + op("REDUCE"),
        "functools.partial",
    ),
}  # fmt: skip

CONV = name(LAYER, "Conv2d") + EMPTY + op("NEWOBJ")
FLOATS = name("torch", "FloatStorage")
METHOD = call("builtins", "getattr", name("ultralytics.nn.modules.head", "Detect"), text("forward"))

# These use allowed names, or need a program around them. name: (instructions, part of the error message)
INERT = {
    "GLOBAL builtins.eval": (name("builtins", "eval"), "builtins.eval"),
    "GLOBAL pickle.loads": (name("pickle", "loads"), "pickle.loads"),
    "GLOBAL torch.load": (name("torch", "load"), "torch.load"),
    "GLOBAL torch.hub.load": (name("torch.hub", "load"), "torch.hub.load"),
    "GLOBAL torch.storage._load_from_bytes": (name("torch.storage", "_load_from_bytes"), "_load_from_bytes"),
    "GLOBAL torch._utils._rebuild_qtensor": (name("torch._utils", "_rebuild_qtensor"), "_rebuild_qtensor"),
    "GLOBAL types.FunctionType": (name("types", "FunctionType"), "types.FunctionType"),
    "GLOBAL marshal.loads": (name("marshal", "loads"), "marshal.loads"),
    "GLOBAL numpy._reconstruct": (name("numpy.core.multiarray", "_reconstruct"), "numpy.core.multiarray._reconstruct"),
    "GLOBAL of a public function": (name("ultralytics.utils.checks", "run"), "ultralytics.utils.checks.run"),
    "GLOBAL of a look-alike package": (name("ultralytics_x.nn", "Conv"), "ultralytics_x.nn.Conv"),
    "GLOBAL of a look-alike layer": (name("torch.nn.modulesx", "Conv2d"), "torch.nn.modulesx"),
    "GLOBAL with control signs": (name("os\x1b[2J", "system"), r"os\x1b[2J.system"),
    "STACK_GLOBAL with dots through a package": (stacked("ultralytics.utils", "Os.system"), "Os.system"),
    "STACK_GLOBAL of numbers": (encode(1) + encode(2) + op("STACK_GLOBAL"), "a name made of an int"),
    "NEWOBJ subprocess.Popen": (name("subprocess", "Popen") + EMPTY + op("NEWOBJ"), "subprocess.Popen"),
    "NEWOBJ of a function": (name("builtins", "getattr") + EMPTY + op("NEWOBJ"), "new object of the name builtins"),
    "NEWOBJ without a tuple": (name(LAYER, "Conv2d") + encode([]) + op("NEWOBJ"), "a new object of the name torch.nn"),
    "NEWOBJ_EX of a layer": (name(LAYER, "Conv2d") + EMPTY + encode({}) + op("NEWOBJ_EX"), "NEWOBJ_EX"),
    "OBJ of a layer": (MARK + name(LAYER, "Conv2d") + op("OBJ"), "OBJ"),
    "PERSID": (op("PERSID") + b"os.system\n", "PERSID"),
    "BINPERSID of a text": (text("os.system") + op("BINPERSID"), "not a tensor storage"),
    "BINPERSID of another kind": (
        encode(("module", name(LAYER, "Conv2d"), "a.py", "source")) + op("BINPERSID"),
        "not a tensor storage",
    ),
    "BINPERSID of a layer as storage": (
        encode(("storage", name(LAYER, "Conv2d"), "0", "cpu", 12)) + op("BINPERSID"),
        "a storage of the name torch.nn",
    ),
    "BINPERSID of a text as storage": (encode(("storage", "x", "0", "cpu", 12)) + op("BINPERSID"), "storage of a str"),
    "REDUCE of a text": (text("os.system") + RUN, "a call of a str"),
    "REDUCE of an object": (CONV + RUN, "a call of the stored torch.nn"),
    "REDUCE of a method": (METHOD + RUN, "a call of the stored builtins.getattr"),
    "REDUCE of a storage class": (FLOATS + RUN, "a call of torch.FloatStorage"),
    "REDUCE without a tuple": (name("collections", "OrderedDict") + encode([]) + op("REDUCE"), "OrderedDict"),
    "REDUCE getattr on a text": (call("builtins", "getattr", text("x"), text("format")), "builtins.getattr"),
    "REDUCE getattr on a method": (call("builtins", "getattr", METHOD, text("__globals__")), "builtins.getattr"),
    "REDUCE getattr with a default": (
        call("builtins", "getattr", name(LAYER, "Conv2d"), text("x"), text("y")),
        "builtins.getattr",
    ),
    "REDUCE builtins.object": (call("builtins", "object"), "builtins.object"),
    "REDUCE set of a text": (call("builtins", "set", text("x")), "builtins.set"),
    "REDUCE torch.Size of a text": (call("torch", "Size", text("x")), "torch.Size"),
    "REDUCE copyreg._reconstructor of a name": (
        call("copyreg", "_reconstructor", name("builtins", "set"), name("builtins", "object"), encode(None)),
        "copyreg._reconstructor",
    ),
    "REDUCE parameter of a text": (
        call("torch._utils", "_rebuild_parameter", text("x"), encode(True), encode({})),
        "_rebuild_parameter",
    ),
    "BUILD of slots": (CONV + encode((None, {"forward": 1})) + op("BUILD"), "a tuple as state of the stored torch.nn"),
    "BUILD of a text": (CONV + text("x") + op("BUILD"), "a str as state of the stored torch.nn"),
    "BUILD twice": (CONV + encode({"a": 1}) + op("BUILD") + encode({"b": 1}) + op("BUILD"), "as state of the stored"),
    "BUILD of a class": (name(LAYER, "Conv2d") + encode({"forward": 1}) + op("BUILD"), "as state of the name torch.nn"),
    "BUILD of a list": (encode([]) + encode({"append": 1}) + op("BUILD"), "a dict as state of a list"),
    "SETITEM on an object": (CONV + text("a") + encode(1) + op("SETITEM"), "items added to the stored torch.nn"),
    "APPEND to an object": (CONV + encode(1) + op("APPEND"), "items added to the stored torch.nn"),
    "APPENDS to a text": (text("x") + MARK + encode(1) + op("APPENDS"), "items added to a str"),
    "a name as key": (encode({}) + name("builtins", "set") + encode(1) + op("SETITEM"), "builtins.set as a dict"),
    "a tuple as key": (encode({}) + EMPTY + encode(1) + op("SETITEM"), "a tuple as a dictionary key"),
    "a huge number as key": (
        encode({}) + op("LONG1") + b"\xff" + b"\x7f" * 255 + encode(1) + op("SETITEM"),
        "an int as a dictionary key",
    ),
    "a bytes object": (op("SHORT_BINBYTES") + b"\x01x", "SHORT_BINBYTES"),
    "an out-of-band buffer": (op("NEXT_BUFFER"), "NEXT_BUFFER"),
    "an unknown instruction": (b"\xff", "0xff"),
    "dill's functions": (call("dill._dill", "_create_function", encode(1)), "was written with dill"),
    "dill's imports": (name("_frozen_importlib", "ModuleSpec"), "was written with dill"),
}  # fmt: skip

TABLE = {**LIVE, **INERT}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder, and fail when anything created the canary."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path(CANARY).exists()


@pytest.fixture
def _extension() -> Iterator[None]:
    """Register a call as extension 241."""
    copyreg.add_extension("os", "mkdir", 241)
    yield
    copyreg.remove_extension("os", "mkdir", 241)


def read_error(content: bytes, what: type[WeightsError] = UnsafeFileError) -> str:
    Path("file.pt").write_bytes(content)
    with pytest.raises(what) as caught:
        read_checkpoint("file.pt")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("row", LIVE)
@pytest.mark.usefixtures("_extension")
def test_payload_is_live_in_python(row: str) -> None:
    pickle.loads(program(LIVE[row][0]))
    canary = Path(CANARY)
    assert canary.exists()
    canary.rmdir() if canary.is_dir() else canary.unlink()


@pytest.mark.parametrize("row", TABLE)
@pytest.mark.usefixtures("_extension")
def test_hostile_pickle_is_refused(row: str) -> None:
    body, named = TABLE[row]
    message = read_error(archive(program(body), STORAGES))
    assert named in message
    assert "nothing in" in message


@pytest.mark.parametrize("row", TABLE)
@pytest.mark.usefixtures("_extension")
def test_hostile_value_in_a_good_file_is_refused(row: str) -> None:
    body, named = TABLE[row]
    assert named in read_error(archive(program(encode(checkpoint(train_args=body))), STORAGES))


@pytest.mark.parametrize("row", LIVE)
@pytest.mark.usefixtures("_extension")
def test_bare_pickle_is_refused(row: str) -> None:
    assert "bare pickle" in read_error(program(LIVE[row][0]))


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_of_any_protocol_is_refused(protocol: int) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, (f"__import__('os').mkdir('{CANARY}')",)

    pickled = pickle.dumps({"model": Payload()}, protocol=protocol)
    assert "file.pt" in read_error(pickled, WeightsError)
    assert "file.pt" in read_error(archive(pickled, STORAGES), WeightsError)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_tampered_public_file_is_refused(shared: Path, place: float) -> None:
    with zipfile.ZipFile(shared / "checkpoints" / "ck_8.3.0_yolo11n-pose.pt") as real:
        content = {member.split("/", 1)[1]: real.read(member) for member in real.namelist()}
    pickled = content.pop("data.pkl")
    # only between complete values: at the start, after an `_rebuild_parameter`, before the end
    ends = [2, pickled.index(op("REDUCE"), len(pickled) // 2) + 1, len(pickled) - 1]
    at = ends[round(place * 2)]
    payload = name("os", "mkdir") + RUN + op("POP")
    assert "os.mkdir" in read_error(archive(pickled[:at] + payload + pickled[at:], members=content))


def test_good_file_is_read() -> None:
    Path("file.pt").write_bytes(good())
    assert set(read_checkpoint("file.pt").state) == {"model.0.weight", "model.0.bias", "model.0.count"}


@pytest.mark.parametrize(
    "body",
    [
        METHOD,
        call("builtins", "getattr", CONV, text("forward")),
        call("copyreg", "_reconstructor", name(LAYER, "Conv2d"), name("builtins", "object"), encode(None)),
        call("__builtin__", "set", encode([1, "a"])),
        call("torch", "Size", encode((1, 2))),
        name("torch", "float16"),
        call("torch", "device", text("cuda"), encode(0)),
        op("EMPTY_SET") + MARK + encode(1) + op("ADDITEMS"),
        call("collections", "OrderedDict", encode([["a", 1]])) + encode({"_metadata": {}}) + op("BUILD"),
    ],
    ids=[
        "method",
        "bound method",
        "_reconstructor",
        "set",
        "size",
        "dtype",
        "device",
        "set of protocol 4",
        "ordered dict",
    ],
)
def test_harmless_value_in_a_public_file_is_read(body: bytes) -> None:
    Path("file.pt").write_bytes(archive(program(encode(checkpoint(model=network(detect=body)))), STORAGES))
    assert len(read_checkpoint("file.pt").state) == 3
