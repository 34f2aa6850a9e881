"""The table of foreign models, `zoo/models_foreign.yaml`, and the classes and keypoints of their networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from yolopose import zoo
from yolopose.base.errors import WeightsError
from yolopose.base.yamlfile import read_yaml
from yolopose.schema import KeypointSchema, PoseSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignModel:
    """A row of the table.

    Attributes:
        name: by which `YOLO(name)` opens it.
        family: title of its family.
        layout: output layout.
        source: address of the project.
        url: address of the file; empty if it must be converted first.
        member: name of the graph in an archive; empty if the file is the graph.
        detector: name of the graph of the first stage in an archive.
        suffix: ending of the local file.
        sha256: of the file at `url`; empty if it is not known.
        license: of the weights, as stated by their publisher.
        permissive: whether that license permits commercial use and redistribution without conditions on other code.
        data: terms of the training data.
        schema: name of the keypoint schema.
        count: number of keypoints.
        imgsz: side of the network input, or height × width.
        ap: published AP, percent; None if it is not known.
        ap_of: data set and protocol of `ap`.
        convert: how to obtain a graph where only a checkpoint is published.
        preprocessing: values of `Preprocessing` that differ from the defaults of the layout.
    """

    name: str
    family: str
    layout: str
    source: str
    url: str
    member: str
    detector: str
    suffix: str
    sha256: str
    license: str
    permissive: bool
    data: str
    schema: str
    count: int
    imgsz: str
    ap: float | None
    ap_of: str
    convert: str
    preprocessing: Mapping[str, Any]


@cache
def foreign_models() -> tuple[ForeignModel, ...]:
    """Return all rows, in the order of the table."""
    table = zoo.foreign_table()
    return tuple(
        _row(name, {**family, **values}) for family in table["families"] for name, values in family["models"].items()
    )


def find_foreign(name: str | Path) -> ForeignModel | None:
    """Return the row of a name (`rtmo-s`), of a file with that name, or of the file that its publisher distributes."""
    path = Path(name)
    stems = (path.name, path.stem)
    for row in foreign_models():
        published = Path(row.url.rsplit("/", 1)[-1]).stem if row.member == "end2end.onnx" else ""
        if row.name in stems or (published and published == path.stem):
            return row
    return None


def _row(name: str, values: dict[str, Any]) -> ForeignModel:
    file = values.get("file", "")
    return ForeignModel(
        name=name,
        family=values["title"],
        layout=values["layout"],
        source=values["source"],
        url=f"{values['address']}{file}" if file else "",
        member=values.get("member", ""),
        detector=values.get("detector", ""),
        suffix=values.get("suffix", ".onnx"),
        sha256=values.get("sha256", ""),
        license=values["license"],
        permissive=values["permissive"],
        data=values["data"],
        schema=values["schema"],
        count=values["count"],
        imgsz=str(values["imgsz"]),
        ap=values.get("ap"),
        ap_of=values.get("ap_of", ""),
        convert=values.get("convert", ""),
        preprocessing=values.get("preprocessing", {}),
    )


# -- classes and keypoints ---------------------------------------------------------------------------------------------


def spec_beside(path: Path) -> PoseSpec | None:
    """Return the classes and keypoints of the data YAML beside a file (`mouse.yaml` for `mouse.onnx`), if it exists."""
    yaml = path.with_suffix(".yaml")
    if not yaml.is_file():
        return None
    return PoseSpec.from_dict(read_yaml(yaml, "keypoints of the network", WeightsError))


def named_spec(schema: str, dims: int) -> PoseSpec:
    """Return a named schema: a data set of the zoo, or an entry of `schemas` in the table of foreign models."""
    table = zoo.foreign_table()
    values = table["schemas"].get(schema) or zoo.dataset_table(schema)
    spec = PoseSpec.from_dict({**values, "kpt_shape": [values["kpt_shape"][0], dims]})
    # such a network does not tell the species of AP-10K apart
    classes = spec.classes if spec.nc == 1 else ("animal",)
    return PoseSpec(classes=classes, keypoints=replace(spec.keypoints, sigmas=tuple(_sigmas(spec.keypoints))))


def default_spec(count: int, dims: int) -> PoseSpec:
    """Return the usual schema of K keypoints; without names where there is none."""
    schema = zoo.foreign_table()["schema_of_count"].get(count)
    if schema:
        return named_spec(schema, dims)
    return PoseSpec(classes=("instance",), keypoints=KeypointSchema(count=count, dims=dims))


def _sigmas(keypoints: KeypointSchema) -> list[float]:
    """Return σ also for D = 2, where the defaults of COCO do not apply by themselves."""
    return [float(sigma) for sigma in replace(keypoints, dims=3).oks_sigmas]
