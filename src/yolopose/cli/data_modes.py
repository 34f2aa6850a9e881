"""The subcommands of `yolo data`: what they do with their options."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from yolopose.base.errors import UsageError
from yolopose.config import (
    CheckedOptions,
    DataGetOptions,
    DataListOptions,
    DataMergeOptions,
    DataSampleOptions,
    DataShowOptions,
    DataSplitOptions,
    make_options,
)


def _split(given: CheckedOptions) -> None:
    from yolopose.data.splitting import split_dataset

    options = cast(DataSplitOptions, make_options("data split", given))
    split_dataset(
        _required(options.data, "data split"),
        options.output,
        val=options.val,
        test=options.test,
        by=options.by,
        group=options.group,
        seed=options.seed,
        copy=options.copy,
    )


def _merge(given: CheckedOptions) -> None:
    from yolopose.data.merging import merge_datasets

    options = cast(DataMergeOptions, make_options("data merge", given))
    merge_datasets(_listed(_required(options.data, "data merge")), options.output or "merged")


def _sample(given: CheckedOptions) -> None:
    from yolopose.data.splitting import sample_dataset

    options = cast(DataSampleOptions, make_options("data sample", given))
    sample_dataset(
        _required(options.data, "data sample"),
        options.n,
        options.output,
        split=options.split,
        seed=options.seed,
        copy=options.copy,
    )


def _show(given: CheckedOptions) -> None:
    from yolopose.results.contact_sheet import show_split

    options = cast(DataShowOptions, make_options("data show", given))
    show_split(
        _required(options.data, "data show"),
        options.split,
        options.output,
        images=options.images,
        columns=options.columns,
        tile=options.tile,
        seed=options.seed,
    )


def _list(given: CheckedOptions) -> None:
    from yolopose.data.catalog import dataset_table, describe_dataset

    options = cast(DataListOptions, make_options("data list", given))
    print(dataset_table(options.find) if options.name is None else describe_dataset(options.name))


def _get(given: CheckedOptions) -> None:
    from yolopose.data.catalog import get_dataset
    from yolopose.data.dataset import Split

    options = cast(DataGetOptions, make_options("data get", given))
    if options.name is None:
        raise UsageError("Give the name of a data set: yolo data get name=coco8-pose. `yolo data list` shows all.")
    sources = _listed(options.source) if options.source else []
    get_dataset(options.name, split=cast("Split | None", options.split), sources=sources, images=options.images)


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.strip("[]()").split(",") if name.strip()]


def _required(data: str | None, mode: str) -> str:
    if data is None:
        example = "a.yaml,b.yaml" if mode == "data merge" else "my-data.yaml"
        raise UsageError(f"`yolo {mode}` needs a data set: give data={example}.")
    return data


DATA_MODES: dict[str, Callable[[CheckedOptions], None]] = {
    "data split": _split,
    "data merge": _merge,
    "data sample": _sample,
    "data show": _show,
    "data list": _list,
    "data get": _get,
}
"""Function of each subcommand; takes the checked options of the command line."""
