from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from yolopose.base.errors import DataError
from yolopose.base.yamlfile import MAX_DEPTH, parse_yaml, read_yaml, to_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("off", "off"), ("y", "y"), ("true", True), ("False", False),
        ("1e-3", 1e-3), ("5E2", 500.0), ("1.5e+3", 1500.0), (".5", 0.5), ("3.", 3.0), ("-.inf", float("-inf")),
        ("010", 10), ("0o17", 15), ("0x1F", 31), ("1_000", 1000), ("-7", -7), ("0b11", "0b11"), ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"), ("12e", "12e"), ("1__0", "1__0"), ("~", None), ("null", None), ("", None),
        ("'007'", "007"), ("None", "None"),
    ],
)  # fmt: skip
def test_words_are_those_of_yaml_1_2(text: str, value: object) -> None:
    result = parse_yaml(f"x: {text}\n")["x"]
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [no, 007, 1e3, 2024-01-01, true, 0x10, 'null', 1.0]",
         ["no", "007", "1e3", "2024-01-01", "true", "0x10", "null", "1.0"]),
        ("names: {0: on, 1: 1:30}", {0: "on", 1: "1:30"}),
        ("names: {0: [no, 1], 1: [off, 2]}", {0: ["no", "1"], 1: ["off", "2"]}),
        ("names: {'0': fly}", {"0": "fly"}),
        ("names: [fly, ~]", ["fly", None]),
    ],
)  # fmt: skip
def test_names_are_text_as_written(text: str, names: object) -> None:
    assert parse_yaml(f"{text}\nnc: 010\n", ["names"]) == {"names": names, "nc": 10}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{BOMB}names: *i\n", "more than 100000 values"),
        (r'names: "\UFFFFFFFF"', "line 1, column .*not a character of Unicode"),
        (r'names: "\U00110000"', "not a character of Unicode"),
        ("names: &a [*a]", "line 1, column 12 .*part of the value"),
        ("names: &a {0: *a}", "part of the value"),
        ("x: " + "[" * 500 + "]" * 500, f"more than {MAX_DEPTH} levels"),
        ("train: a\nval: b\ntrain: c", r"line 3, column 1 .*'train' occurs twice \(first in line 1\)"),
        ("names:\n  0: a\n  0: b", "line 3, column 3 .*'0' occurs twice"),
        ("x: !!int abc", "line 1, column 4 .*'abc' is not a valid value of the type int"),
        ("x: !!bool maybe", "valid value of the type bool"),
        ("x: !!timestamp abc", "valid value of the type timestamp"),
        ("x: " + "9" * 5000, "valid value of the type int"),
        ("x: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ('x: "\\ud800"', "surrogate"),
        ("x: \0", "not valid YAML: special characters are not allowed"),
        ("a: 1\nb: [", "line 2, column 5 is not valid YAML"),
        ("[1, 2]", "must hold `key: value` lines, but holds list"),
    ],
)
def test_what_cannot_be_read_is_one_short_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_yaml(path, "data YAML", DataError)
    assert len(str(error.value)) < 500


def test_aliases_and_merged_mappings_are_read() -> None:
    text = "base: &b {a: 1, b: 2}\nx: {<<: *b, b: 3}\ny: {<<: *b}\nz: *b\n"
    values = parse_yaml(text)
    assert (values["x"], values["y"], values["z"]) == ({"a": 1, "b": 3}, {"a": 1, "b": 2}, {"a": 1, "b": 2})


@pytest.mark.parametrize(
    "value", ["no", "1e-3", "0o17", "010", "1:30", "2024-01-01", "~", "", "true", "a: b", "é", 1e-05, 3, None, [1, "2"]]
)
def test_written_values_are_read_back_by_all_readers(value: Any) -> None:
    text = to_yaml({"x": value, value if isinstance(value, str) else "k": 1})
    assert parse_yaml(text)["x"] == value
    assert yaml.safe_load(text)["x"] == value  # a reader of YAML 1.1
