"""The YAML reader: limits, and that written values are read back."""

from __future__ import annotations

from instrumented import instrument

with instrument():
    import yaml
    from harness import Target, main, work_folder

    from yolopose.base.errors import UsageError
    from yolopose.base.yamlfile import parse_yaml, read_yaml, to_yaml

FOLDER = work_folder()


def run(data: bytes) -> None:
    """Read one case."""
    path = FOLDER / "a.yaml"
    path.write_bytes(data)
    values = read_yaml(path, "options file", UsageError, text_keys=("names",))
    try:
        text = to_yaml(values)
    except (yaml.representer.RepresenterError, UnicodeEncodeError):
        return
    assert repr(parse_yaml(text)) == repr(values)


TARGET = Target(
    "yaml",
    run,
    [b"&a ", b"*a", b"<<: ", b"!!int ", b"!!timestamp ", b"!!binary ", b"- ", b": ", b"{", b"[", b"|\n", b"? "],
)

if __name__ == "__main__":
    main(TARGET)
